// The ring, turned by hand: a real scheduler, a backend without a model, a clock that only the test
// moves.
#include "service/engine/engine_loop.h"
#include "service/engine/token_stream.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "service/engine/engine.h"
#include "tests/service/grpc/fake_backend.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::FakeBackend;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

SchedulerOptions Options() {
  SchedulerOptions options;
  options.geometry = {Tokens(16), Bytes(1024)};
  options.device_blocks = Blocks(16);
  options.host_blocks = Blocks(64);
  options.max_model_len = Tokens(256);
  options.queue_limit = 4;
  return options;
}

BackendInfo Info(const SchedulerOptions& options) {
  BackendInfo info;
  info.name = "fake";
  info.geometry = options.geometry;
  info.device_blocks = options.device_blocks;
  info.host_blocks = options.host_blocks;
  return info;
}

class EngineLoopTest : public ::testing::Test {
 protected:
  RequestSpec Spec(int64_t id, int64_t prompt, int64_t max_new) {
    RequestSpec spec;
    spec.id = RequestId(id);
    for (int64_t i = 0; i < prompt; ++i) spec.prompt.push_back(static_cast<TokenId>(100 * id + i));
    spec.max_new = Tokens(max_new);
    spec.sampling = std::make_shared<SamplingParams>();
    return spec;
  }

  std::shared_ptr<TokenStream> NewStream(int64_t capacity = 1000) {
    return std::make_shared<TokenStream>(Tokens(capacity), [] {});
  }

  // Turns until nothing is left to do. Time passes between turns.
  void RunUntilQuiet() {
    for (int i = 0; i < 1000 && loop_.RunOnce(); ++i) now_ += absl::Milliseconds(1);
  }

  absl::Time now_ = absl::FromUnixSeconds(1000);
  SchedulerOptions options_ = Options();
  Scheduler scheduler_{options_};
  FakeBackend backend_{Info(options_), [this] { return now_; }};
  Metrics metrics_{Info(options_), "m"};
  EngineLoop loop_{scheduler_, backend_, &metrics_, [this] { return now_; }, EngineOptions{2}};
};

TEST_F(EngineLoopTest, ARequestGetsItsTokensAndOneEnd) {
  auto stream = NewStream();
  ASSERT_THAT(loop_.Submit(Spec(1, 20, 5), stream), IsOk());
  RunUntilQuiet();
  const std::vector<Event> events = stream->TakeAll();
  ASSERT_EQ(events.size(), 5u);
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_TRUE(events[i].token.has_value());
    EXPECT_EQ(events[i].finish.has_value(), i == 4);
  }
  EXPECT_EQ(events[4].finish->reason, FinishReason::kLength);
  EXPECT_EQ(events[4].finish->stats.output, Tokens(5));
  EXPECT_TRUE(loop_.idle());
}

TEST_F(EngineLoopTest, ARefusalComesThroughTheStream) {
  auto stream = NewStream();
  ASSERT_THAT(loop_.Submit(Spec(1, 250, 50), stream), IsOk());
  loop_.RunOnce();
  const std::vector<Event> events = stream->TakeAll();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_THAT(events[0].finish->status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("")));
  EXPECT_TRUE(loop_.idle());
}

TEST_F(EngineLoopTest, AFullInboxRefusesAtOnce) {
  ASSERT_THAT(loop_.Submit(Spec(1, 8, 1), NewStream()), IsOk());
  ASSERT_THAT(loop_.Submit(Spec(2, 8, 1), NewStream()), IsOk());
  EXPECT_THAT(loop_.Submit(Spec(3, 8, 1), NewStream()),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("limit 2")));
}

TEST_F(EngineLoopTest, ASlowReaderIsCancelledAndFreesItsBlocks) {
  auto slow = NewStream(3);
  auto reader = NewStream();
  ASSERT_THAT(loop_.Submit(Spec(1, 8, 50), slow), IsOk());
  ASSERT_THAT(loop_.Submit(Spec(2, 8, 50), reader), IsOk());
  RunUntilQuiet();
  const std::vector<Event> events = slow->TakeAll();
  ASSERT_EQ(events.size(), 4u);
  EXPECT_THAT(events[3].finish->status,
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("read too slowly")));
  EXPECT_EQ(reader->TakeAll().size(), 50u);
  EXPECT_EQ(loop_.load().scheduler.device.referenced, Blocks(0));
}

TEST_F(EngineLoopTest, CancelEndsARequestWhereverItIs) {
  auto stream = NewStream();
  ASSERT_THAT(loop_.Submit(Spec(1, 8, 200), stream), IsOk());
  loop_.RunOnce();
  loop_.RunOnce();
  loop_.Cancel(RequestId(1));
  loop_.Cancel(RequestId(77));  // unknown: ignored
  RunUntilQuiet();
  const std::vector<Event> events = stream->TakeAll();
  EXPECT_EQ(events.back().finish->reason, FinishReason::kCancelled);
  EXPECT_TRUE(loop_.idle());
  EXPECT_EQ(loop_.load().scheduler.device.referenced, Blocks(0));
}

TEST_F(EngineLoopTest, ADrainingEngineRefusesButFinishesWhatItHas) {
  auto stream = NewStream();
  ASSERT_THAT(loop_.Submit(Spec(1, 8, 3), stream), IsOk());
  loop_.StartDrain();
  EXPECT_THAT(loop_.Submit(Spec(2, 8, 3), NewStream()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
  RunUntilQuiet();
  EXPECT_EQ(stream->TakeAll().size(), 3u);
  EXPECT_TRUE(loop_.load().draining);
}

TEST_F(EngineLoopTest, AFailedStepEndsItsRequestsNotTheEngine) {
  auto first = NewStream();
  ASSERT_THAT(loop_.Submit(Spec(1, 8, 3), first), IsOk());
  backend_.FailNextStep(absl::InternalError("device lost"));
  RunUntilQuiet();
  EXPECT_THAT(first->TakeAll().back().finish->status,
              StatusIs(absl::StatusCode::kInternal, HasSubstr("device lost")));
  auto second = NewStream();
  ASSERT_THAT(loop_.Submit(Spec(2, 8, 3), second), IsOk());
  RunUntilQuiet();
  EXPECT_EQ(second->TakeAll().size(), 3u);
}

// More documents than the device holds: the second round comes back from the host.
TEST_F(EngineLoopTest, EvictedPrefixesAreLoadedFromTheHost) {
  for (int round = 0; round < 2; ++round) {
    for (int64_t document = 1; document <= 4; ++document) {
      RequestSpec spec = Spec(document, 100, 4);
      spec.id = RequestId(10 * round + document);
      auto stream = NewStream();
      ASSERT_THAT(loop_.Submit(std::move(spec), stream), IsOk());
      RunUntilQuiet();
      const RequestStats stats = stream->TakeAll().back().finish->stats;
      EXPECT_EQ(stats.cached[1], round == 0 ? Tokens(0) : Tokens(96)) << document;
      EXPECT_EQ(stats.loaded, round == 0 ? Bytes(0) : Bytes(6 * 1024));
    }
  }
}

// The ring on its own thread.
class EngineTest : public ::testing::Test {
 protected:
  // Returns when the request's first step is held back.
  std::shared_ptr<TokenStream> SubmitAndHold(int64_t max_new) {
    backend_.HoldSteps();
    RequestSpec spec;
    spec.id = RequestId(1);
    spec.prompt = {1, 2, 3};
    spec.max_new = Tokens(max_new);
    spec.sampling = std::make_shared<SamplingParams>();
    auto stream = std::make_shared<TokenStream>(Tokens(1000), [] {});
    EXPECT_THAT(loop_.Submit(std::move(spec), stream), IsOk());
    backend_.WaitUntilHeld();
    return stream;
  }

  SchedulerOptions options_ = Options();
  Scheduler scheduler_{options_};
  FakeBackend backend_{Info(options_), [] { return absl::Now(); }};
  Metrics metrics_{Info(options_), "m"};
  EngineLoop loop_{scheduler_, backend_, &metrics_, [] { return absl::Now(); }, {}};
};

TEST_F(EngineTest, DrainWaitsForWhatIsLive) {
  Engine engine(loop_);
  const auto stream = SubmitAndHold(2);
  EXPECT_FALSE(engine.Drain(absl::Milliseconds(1)));
  backend_.ReleaseSteps();
  EXPECT_TRUE(engine.Drain(absl::InfiniteDuration()));
  EXPECT_TRUE(stream->TakeAll().back().finish.has_value());
}

TEST_F(EngineTest, StoppingEndsEveryRequestOnce) {
  std::shared_ptr<TokenStream> stream;
  {
    Engine engine(loop_);
    stream = SubmitAndHold(100);
    backend_.ReleaseSteps();
  }
  // It may have been quick enough to finish; it has ended once, in either case.
  const std::vector<Event> events = stream->TakeAll();
  ASSERT_FALSE(events.empty());
  for (const Event& event : events) {
    EXPECT_EQ(event.finish.has_value(), &event == &events.back());
  }
}

}  // namespace
}  // namespace sluice
