#include "backend/probe_timer.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;

// A clock that only runs make go on.
class FakeRuns {
 public:
  explicit FakeRuns(std::vector<int64_t> milliseconds) : milliseconds_(std::move(milliseconds)) {
    control_.clock = [this] { return now_; };
    control_.time = absl::Milliseconds(1000);
  }
  ProbeControl& control() { return control_; }
  // A run takes the next of the times, the first one again after the last.
  absl::Status Run() {
    now_ += absl::Milliseconds(milliseconds_[runs_++ % milliseconds_.size()]);
    return absl::OkStatus();
  }
  size_t runs() const { return runs_; }

 private:
  ProbeControl control_;
  const std::vector<int64_t> milliseconds_;
  size_t runs_ = 0;
  absl::Time now_ = absl::UnixEpoch();
};

TEST(ProbeTimerTest, RepeatsForTheTimeGivenAndOrdersWhatItSaw) {
  FakeRuns runs({50, 10, 20, 30, 40});
  const auto times = TimeRepeatedly(runs.control(), [&] { return runs.Run(); });
  ASSERT_THAT(times, IsOk());
  EXPECT_EQ(times->repeats, 34) << "of 30 ms on average, in a second";
  EXPECT_EQ(runs.runs(), 35U) << "one more to warm up";
  EXPECT_EQ(times->best, absl::Milliseconds(10));
  EXPECT_EQ(times->low, absl::Milliseconds(10));
  EXPECT_EQ(times->quarter, absl::Milliseconds(20));
  EXPECT_EQ(times->median, absl::Milliseconds(30));
  EXPECT_EQ(times->high, absl::Milliseconds(50));
}

TEST(ProbeTimerTest, ALongRunIsRepeatedAFewTimesAllTheSame) {
  FakeRuns runs({5000});
  const auto times = TimeRepeatedly(runs.control(), [&] { return runs.Run(); });
  ASSERT_THAT(times, IsOk());
  EXPECT_EQ(times->repeats, kLeastRepeats);
}

TEST(ProbeTimerTest, ARunWithoutTimeEnds) {
  FakeRuns runs({0});
  const auto times = TimeRepeatedly(runs.control(), [&] { return runs.Run(); });
  ASSERT_THAT(times, IsOk());
  EXPECT_EQ(times->repeats, kMostRepeats);
}

TEST(ProbeTimerTest, CancellingEndsItBetweenTwoRuns) {
  FakeRuns runs({10});
  runs.control().cancelled = [&] { return runs.runs() == 3; };
  EXPECT_THAT(TimeRepeatedly(runs.control(), [&] { return runs.Run(); }),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("interrupted")));
  EXPECT_EQ(runs.runs(), 3U);
}

TEST(ProbeTimerTest, AFailedRunIsTheResult) {
  FakeRuns runs({10});
  const auto fail = [&]() -> absl::Status {
    if (runs.runs() == 2) return absl::InternalError("the third run");
    return runs.Run();
  };
  EXPECT_THAT(TimeRepeatedly(runs.control(), fail),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("the third run")));
}

}  // namespace
}  // namespace sluice::testing
