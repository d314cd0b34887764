// The ring, turned by hand: a real scheduler, a backend without a model, a clock that only the test
// moves.
#include "service/engine/engine_loop.h"
#include "service/engine/token_stream.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
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

int64_t TokensIn(const std::vector<Event>& events) {
  return std::count_if(events.begin(), events.end(),
                       [](const Event& event) { return event.token.has_value(); });
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
  ASSERT_EQ(events.size(), 6u);
  EXPECT_TRUE(events[0].predicted_ttft.has_value());
  EXPECT_FALSE(events[0].token.has_value());
  for (size_t i = 1; i < events.size(); ++i) {
    EXPECT_TRUE(events[i].token.has_value());
    EXPECT_EQ(events[i].finish.has_value(), i == 5);
  }
  EXPECT_EQ(events[5].finish->reason, FinishReason::kLength);
  EXPECT_EQ(events[5].finish->stats.output, Tokens(5));
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
  ASSERT_EQ(events.size(), 5u);  // queued, three tokens, the end
  EXPECT_THAT(events[4].finish->status,
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("read too slowly")));
  EXPECT_EQ(TokensIn(reader->TakeAll()), 50);
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

// UNAVAILABLE says that the device is gone; any other failure of a step concerns that step.
TEST_F(EngineLoopTest, ALostDeviceIsToldOnceAndEndsWhatIsLive) {
  std::vector<absl::Status> told;
  EngineOptions options;
  options.on_lost = [&](const absl::Status& why) { told.push_back(why); };
  Scheduler scheduler(options_);
  EngineLoop loop(
      scheduler, backend_, nullptr, [this] { return now_; }, options);
  const auto run = [&] {
    for (int i = 0; i < 100 && loop.RunOnce(); ++i) now_ += absl::Milliseconds(1);
  };
  auto first = NewStream();
  ASSERT_THAT(loop.Submit(Spec(1, 8, 50), first), IsOk());
  backend_.FailNextStep(absl::InternalError("one bad launch"));
  run();
  EXPECT_TRUE(told.empty());

  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int64_t i = 2; i < 5; ++i) {
    streams.push_back(NewStream());
    ASSERT_THAT(loop.Submit(Spec(i, 8, 50), streams.back()), IsOk());
  }
  for (int i = 0; i < 4; ++i) {
    backend_.FailNextStep(absl::UnavailableError("device lost: an illegal address"));
    loop.RunOnce();
  }
  run();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_THAT(told[0], StatusIs(absl::StatusCode::kUnavailable, HasSubstr("illegal address")));
  for (const auto& stream : streams) {
    EXPECT_THAT(stream->TakeAll().back().finish->status,
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("illegal address")));
  }
  EXPECT_TRUE(loop.idle());
  EXPECT_THAT(loop.Submit(Spec(9, 8, 1), NewStream()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
}

TEST_F(EngineLoopTest, ADrainingEngineRefusesButFinishesWhatItHas) {
  auto stream = NewStream();
  ASSERT_THAT(loop_.Submit(Spec(1, 8, 3), stream), IsOk());
  loop_.StartDrain();
  EXPECT_THAT(loop_.Submit(Spec(2, 8, 3), NewStream()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
  RunUntilQuiet();
  EXPECT_EQ(TokensIn(stream->TakeAll()), 3);
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
  EXPECT_EQ(TokensIn(second->TakeAll()), 3);
}

TEST_F(EngineLoopTest, WithoutMetricsAndWithARarePublicationItServesTheSame) {
  FakeBackend backend(Info(options_), [this] { return now_; });
  Scheduler scheduler(options_);
  EngineOptions options;
  options.publish_interval = absl::InfiniteDuration();
  EngineLoop loop(
      scheduler, backend, nullptr, [this] { return now_; }, options);
  auto stream = NewStream();
  ASSERT_THAT(loop.Submit(Spec(1, 20, 5), stream), IsOk());
  while (loop.RunOnce()) now_ += absl::Milliseconds(1);
  EXPECT_EQ(TokensIn(stream->TakeAll()), 5);
  EXPECT_EQ(scheduler.stats().output_tokens, Tokens(5));
  EXPECT_EQ(loop.load().scheduler.output_tokens, Tokens(0));  // as published at the start
}

TEST_F(EngineLoopTest, AQuestionIsAnsweredOnTheNextTurnAndChangesNothing) {
  std::vector<Explanation> answers;
  const auto keep = [&](Explanation e) { answers.push_back(std::move(e)); };
  ASSERT_THAT(loop_.Explain(Spec(1, 20, 5), keep), IsOk());
  ASSERT_THAT(loop_.Explain(Spec(2, 250, 50), keep), IsOk());
  EXPECT_TRUE(answers.empty());
  EXPECT_FALSE(loop_.idle());
  EXPECT_FALSE(loop_.RunOnce()) << "a question is no work";
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_THAT(answers[0].status, IsOk());
  EXPECT_EQ(answers[0].prompt, Tokens(20));
  EXPECT_THAT(answers[1].status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("")));
  EXPECT_TRUE(loop_.idle());
}

TEST_F(EngineLoopTest, QuestionsAreBoundedAndEndWithTheEngine) {
  std::vector<absl::StatusCode> codes;
  const auto keep = [&](const Explanation& e) { codes.push_back(e.status.code()); };
  ASSERT_THAT(loop_.Explain(Spec(1, 8, 1), keep), IsOk());
  ASSERT_THAT(loop_.Explain(Spec(1, 8, 1), keep), IsOk());
  EXPECT_THAT(loop_.Explain(Spec(1, 8, 1), keep),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("2 questions")));
  loop_.StartDrain();
  EXPECT_THAT(loop_.Explain(Spec(1, 8, 1), keep),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
  loop_.Abandon();
  EXPECT_EQ(codes, std::vector<absl::StatusCode>(2, absl::StatusCode::kUnavailable));
}

class Notes final : public RequestObserver {
 public:
  Ticket OnArrival(const RequestSpec& spec, absl::Time /*at*/) override {
    prompts_.push_back(static_cast<int64_t>(spec.prompt.size()));
    return prompts_.size() - 1;
  }
  void OnEnd(Ticket ticket, Tokens output) override {
    ends_.emplace_back(prompts_[ticket], output.value());
  }

  std::vector<int64_t> prompts_;
  std::vector<std::pair<int64_t, int64_t>> ends_;  // prompt and output tokens
};

TEST_F(EngineLoopTest, AnObserverHearsOfEveryArrivalAndItsEnd) {
  Notes notes;
  EngineOptions options;
  options.observer = &notes;
  EngineLoop loop(
      scheduler_, backend_, nullptr, [this] { return now_; }, options);
  ASSERT_THAT(loop.Submit(Spec(1, 20, 5), NewStream()), IsOk());
  ASSERT_THAT(loop.Submit(Spec(2, 21, 3), NewStream()), IsOk());
  ASSERT_THAT(loop.Submit(Spec(3, 250, 50), NewStream()), IsOk());  // never fits
  while (loop.RunOnce()) now_ += absl::Milliseconds(1);
  ASSERT_THAT(loop.Submit(Spec(4, 22, 50), NewStream()), IsOk());
  loop.RunOnce();
  loop.RunOnce();
  loop.Abandon();
  EXPECT_EQ(notes.prompts_, (std::vector<int64_t>{20, 21, 250, 22}));
  EXPECT_EQ(notes.ends_,
            (std::vector<std::pair<int64_t, int64_t>>{{250, 0}, {21, 3}, {20, 5}, {22, 2}}));
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
