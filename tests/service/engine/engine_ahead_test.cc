// The ring with two steps in flight: a real scheduler, and a backend that counts them.
#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "service/engine/engine_loop.h"
#include "service/engine/token_stream.h"
#include "tests/service/grpc/fake_backend.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::FakeBackend;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

// As the fake one, two at a time; a step fails with the one before.
class DeepBackend : public FakeBackend {
 public:
  DeepBackend(BackendInfo info, std::function<absl::Time()> clock)
      : FakeBackend(std::move(info), std::move(clock)) {}

  void Launch(const StepPlan& plan) override {
    in_flight_.push_back(&plan);
    deepest_ = std::max(deepest_, in_flight_.size());
    for (const SequenceWork& work : plan.sequences) unknown_ += work.previous_row >= 0 ? 1 : 0;
  }
  StepResult Wait() override {
    const StepPlan* const plan = in_flight_.front();
    in_flight_.pop_front();
    if (!broken_.ok()) FailNextStep(std::exchange(broken_, absl::OkStatus()));
    StepResult result = Run(*plan);
    if (!in_flight_.empty()) broken_ = result.status;
    return result;
  }

  size_t in_flight() const { return in_flight_.size(); }
  size_t deepest() const { return deepest_; }
  int64_t unknown() const { return unknown_; }  // tokens that were not known at the launch

 private:
  std::deque<const StepPlan*> in_flight_;
  absl::Status broken_;
  size_t deepest_ = 0;
  int64_t unknown_ = 0;
};

SchedulerOptions Options() {
  SchedulerOptions options;
  options.geometry = {Tokens(16), Bytes(1024)};
  options.device_blocks = Blocks(24);
  options.host_blocks = Blocks(64);
  options.max_model_len = Tokens(256);
  return options;
}

BackendInfo Info() {
  BackendInfo info;
  info.name = "deep";
  info.geometry = Options().geometry;
  info.device_blocks = Options().device_blocks;
  info.host_blocks = Options().host_blocks;
  info.max_steps_in_flight = 2;
  return info;
}

RequestSpec Spec(int64_t id, int64_t prompt, int64_t max_new) {
  RequestSpec spec;
  spec.id = RequestId(id);
  for (int64_t i = 0; i < prompt; ++i) {
    spec.prompt.push_back(static_cast<TokenId>(100 * (id % 3) + i));
  }
  spec.max_new = Tokens(max_new);
  SamplingParams sampling;
  sampling.seed = static_cast<uint64_t>(id);
  sampling.stop_ids = {'q', 'z'};
  if (id % 7 == 0) sampling.frequency_penalty = 1;
  spec.sampling = std::make_shared<const SamplingParams>(std::move(sampling));
  return spec;
}

// The same, drawn until max_new.
RequestSpec PlainSpec(int64_t id, int64_t prompt, int64_t max_new) {
  RequestSpec spec = Spec(id, prompt, max_new);
  spec.sampling = std::make_shared<SamplingParams>();
  return spec;
}

// One engine, turned by hand.
struct World {
  explicit World(int depth) {
    EngineOptions options;
    options.max_steps_in_flight = depth;
    options.on_lost = [this](const absl::Status& why) { lost.push_back(why); };
    loop = std::make_unique<EngineLoop>(
        scheduler, backend, nullptr, [this] { return now; }, options);
  }

  std::shared_ptr<TokenStream> Submit(RequestSpec spec, int64_t capacity = 1000) {
    auto stream = std::make_shared<TokenStream>(Tokens(capacity), [] {});
    EXPECT_THAT(loop->Submit(std::move(spec), stream), IsOk());
    return stream;
  }
  bool Turn() {
    now += absl::Milliseconds(1);
    const bool worked = loop->RunOnce();
    EXPECT_THAT(scheduler.CheckInvariants(), IsOk());
    return worked;
  }
  void RunUntilQuiet() {
    for (int i = 0; i < 10000 && Turn(); ++i) {
    }
    EXPECT_TRUE(loop->idle());
    EXPECT_EQ(backend.in_flight(), 0u);
    EXPECT_EQ(scheduler.stats().device.referenced, Blocks(0));
  }

  absl::Time now = absl::FromUnixSeconds(1000);
  Scheduler scheduler{Options()};
  DeepBackend backend{Info(), [this] { return now; }};
  std::vector<absl::Status> lost;
  std::unique_ptr<EngineLoop> loop;
};

std::vector<TokenId> TokensIn(const std::vector<Event>& events) {
  std::vector<TokenId> tokens;
  for (const Event& event : events) {
    if (event.token.has_value()) tokens.push_back(event.token->token);
  }
  return tokens;
}

// Requests come at random turns; some are cancelled.
TEST(EngineAheadTest, TwoStepsInFlightGiveEveryRequestTheSameTokens) {
  int64_t ahead = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    std::vector<std::vector<TokenId>> answers[2];
    for (const int depth : {1, 2}) {
      std::mt19937_64 rng(seed);
      World world(depth);
      std::vector<std::shared_ptr<TokenStream>> streams;
      while (streams.size() < 30) {
        const auto id = static_cast<int64_t>(streams.size());
        const auto length = static_cast<int64_t>(1 + rng() % 70);
        streams.push_back(world.Submit(Spec(id, length, static_cast<int64_t>(1 + rng() % 25))));
        for (uint64_t turns = rng() % 6; turns > 0; --turns) world.Turn();
      }
      world.RunUntilQuiet();
      EXPECT_EQ(world.backend.deepest(), static_cast<size_t>(depth));
      EXPECT_EQ(world.backend.unknown() > 0, depth == 2);
      ahead += world.scheduler.stats().steps_ahead;
      for (const auto& stream : streams) {
        const std::vector<Event> events = stream->TakeAll();
        ASSERT_TRUE(events.back().finish.has_value());
        EXPECT_THAT(events.back().finish->status, IsOk());
        answers[depth - 1].push_back(TokensIn(events));
      }
    }
    EXPECT_EQ(answers[0], answers[1]);
  }
  EXPECT_GT(ahead, 500);
}

TEST(EngineAheadTest, ACancelledRequestGetsNothingMoreAndLeavesNothing) {
  World world(2);
  auto stream = world.Submit(PlainSpec(1, 8, 200));
  for (int i = 0; i < 3; ++i) world.Turn();
  ASSERT_EQ(world.backend.in_flight(), 1u);
  world.loop->Cancel(RequestId(1));
  world.RunUntilQuiet();
  const std::vector<Event> events = stream->TakeAll();
  EXPECT_EQ(events.back().finish->reason, FinishReason::kCancelled);
  EXPECT_EQ(TokensIn(events).size(), 3u);
}

TEST(EngineAheadTest, ASlowReaderEndsWithAStepInFlight) {
  World world(2);
  auto stream = world.Submit(PlainSpec(1, 8, 50), 3);
  world.RunUntilQuiet();
  EXPECT_THAT(stream->TakeAll().back().finish->status,
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("read too slowly")));
}

TEST(EngineAheadTest, AStepThatFailsTakesTheOneBehindWithItAndNoMore) {
  World world(2);
  auto first = world.Submit(PlainSpec(1, 8, 50));
  for (int i = 0; i < 4; ++i) world.Turn();
  world.backend.FailNextStep(absl::InternalError("one bad launch"));
  world.RunUntilQuiet();
  EXPECT_THAT(first->TakeAll().back().finish->status,
              StatusIs(absl::StatusCode::kInternal, HasSubstr("one bad launch")));
  EXPECT_TRUE(world.lost.empty());
  auto second = world.Submit(Spec(2, 8, 1));
  world.RunUntilQuiet();
  EXPECT_THAT(second->TakeAll().back().finish->status, IsOk());
}

TEST(EngineAheadTest, ALostDeviceIsToldOnce) {
  World world(2);
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int64_t id = 0; id < 3; ++id) {
    streams.push_back(world.Submit(PlainSpec(id, 8, 50)));
  }
  for (int i = 0; i < 4; ++i) world.Turn();
  world.backend.FailNextStep(absl::UnavailableError("device lost"));
  world.RunUntilQuiet();
  ASSERT_EQ(world.lost.size(), 1u);
  for (const auto& stream : streams) {
    EXPECT_THAT(stream->TakeAll().back().finish->status,
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("device lost")));
  }
}

TEST(EngineAheadTest, ADrainFinishesWhatIsInFlight) {
  World world(2);
  auto stream = world.Submit(PlainSpec(1, 8, 20));
  for (int i = 0; i < 3; ++i) world.Turn();
  world.loop->StartDrain();
  world.RunUntilQuiet();
  EXPECT_EQ(TokensIn(stream->TakeAll()).size(), 20u);
}

// The step in flight uses the scheduler's memory.
TEST(EngineAheadTest, AStopThatDoesNotWaitForRequestsWaitsForTheStepInFlight) {
  World world(2);
  auto stream = world.Submit(PlainSpec(1, 8, 20));
  for (int i = 0; i < 3; ++i) world.Turn();
  ASSERT_EQ(world.backend.in_flight(), 1u);
  EXPECT_FALSE(world.loop->idle());
  world.loop->StartDrain();
  world.loop->Abandon();
  EXPECT_EQ(world.backend.in_flight(), 0u);
  EXPECT_THAT(stream->TakeAll().back().finish->status,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("shutting down")));
}

}  // namespace
}  // namespace sluice
