// The same machine, a thousand times faster, on the real clock.
#include "backend/sim/real_time_backend.h"

#include <condition_variable>
#include <mutex>

#include "gmock/gmock.h"
#include "tests/backend/sim/small_machine.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::MakeCopy;
using testing::SmallMachine;
using testing::StepOf;

class Signal {
 public:
  void Notify() {
    std::lock_guard<std::mutex> lock(mu_);
    ++count_;
    changed_.notify_all();
  }
  void WaitFor(int count) {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [&] { return count_ >= count; });
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  int count_ = 0;
};

TEST(RealTimeSimBackendTest, AStepTakesItsTime) {
  auto backend = MakeRealTimeSimBackend(SmallMachine());
  ASSERT_TRUE(backend.ok());
  EXPECT_EQ((*backend)->info().name, "sim");
  StepOf step(1);
  step.Add(1, 32, 10);
  const absl::Time before = absl::Now();
  const StepResult result = (*backend)->Run(step.plan());
  EXPECT_GE(result.started, before);
  EXPECT_EQ(result.finished - result.started, absl::Microseconds(4375));
  EXPECT_GE(absl::Now(), result.finished);
  EXPECT_GE((*backend)->activity().compute_only, absl::Microseconds(4375));
}

TEST(RealTimeSimBackendTest, TheListenerHearsOfACopyThatEndsBetweenSteps) {
  Signal signal;
  auto backend = MakeRealTimeSimBackend(SmallMachine());
  ASSERT_TRUE(backend.ok());
  (*backend)->SetCopyListener([&] { signal.Notify(); });
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 1)};
  const absl::Time before = absl::Now();
  (*backend)->StartCopies(copies);
  signal.WaitFor(1);
  const std::vector<CopyResult> results = (*backend)->TakeFinishedCopies();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_TRUE(results[0].status.ok());
  EXPECT_EQ(results[0].bytes, Bytes(4000));
  EXPECT_GE(results[0].finished - before, absl::Milliseconds(5));
  EXPECT_LE(results[0].finished, absl::Now());
  EXPECT_TRUE((*backend)->TakeFinishedCopies().empty());
}

TEST(RealTimeSimBackendTest, AStepThatMeetsItsLoadEndsAfterIt) {
  auto backend = MakeRealTimeSimBackend(SmallMachine());
  ASSERT_TRUE(backend.ok());
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2, 1)};
  (*backend)->StartCopies(copies);
  StepOf step(1);
  step.Add(1, 32, 10, {CopyId(1)});
  const StepResult result = (*backend)->Run(step.plan());
  const std::vector<CopyResult> results = (*backend)->TakeFinishedCopies();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_GT(result.finished, results[0].finished);
  EXPECT_GE(absl::Now(), result.finished);
  EXPECT_EQ(result.load_stall, result.finished - result.started - absl::Microseconds(4375));
}

TEST(RealTimeSimBackendTest, ARevokedCopyEnds) {
  Signal signal;
  auto backend = MakeRealTimeSimBackend(SmallMachine());
  ASSERT_TRUE(backend.ok());
  (*backend)->SetCopyListener([&] { signal.Notify(); });
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 60),
                                    MakeCopy(2, LinkDirection::kHostToDevice, 60)};
  (*backend)->StartCopies(copies);
  const std::vector<CopyId> second = {CopyId(2)};
  (*backend)->RevokeCopies(second);
  std::vector<CopyResult> results;
  for (int heard = 1; results.empty(); ++heard) {
    results = (*backend)->TakeFinishedCopies();
    if (results.empty()) signal.WaitFor(heard);
  }
  EXPECT_EQ(results[0].id, CopyId(2));
  EXPECT_EQ(results[0].status.code(), absl::StatusCode::kCancelled);
}

TEST(RealTimeSimBackendTest, BadOptionsAreRefused) {
  SimOptions options = SmallMachine();
  options.noise = -1;
  EXPECT_THAT(MakeRealTimeSimBackend(options).status().message(), HasSubstr("noise: -1"));
}

}  // namespace
}  // namespace sluice
