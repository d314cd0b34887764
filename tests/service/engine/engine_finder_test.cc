// Requests wait for what a shared store has of their prompts, a little, and end whatever it says.
#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "service/engine/engine_loop.h"
#include "service/engine/token_stream.h"
#include "tests/service/grpc/fake_backend.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

// Answers when the test says so.
class FakeFinder final : public BlockFinder {
 public:
  struct Asked {
    std::vector<BlockIdentity> blocks;
    std::function<void(size_t)> answer;
  };

  bool Find(std::vector<BlockIdentity> blocks, std::function<void(size_t)> answer) override {
    if (!on) return false;
    asked.push_back({std::move(blocks), std::move(answer)});
    return true;
  }
  void Bind(std::span<const StoredBlock> blocks) override {
    for (const StoredBlock& block : blocks) bound.push_back(block.slot);
  }

  bool on = true;
  std::vector<Asked> asked;
  std::vector<BlockId> bound;
};

class EngineFinderTest : public ::testing::Test {
 protected:
  static SchedulerOptions Options() {
    SchedulerOptions options;
    options.geometry = {Tokens(16), Bytes(1024)};
    options.device_blocks = Blocks(16);
    options.host_blocks = Blocks(64);
    options.disk_blocks = Blocks(64);
    options.storage_tier = Tier::kRemote;
    options.max_model_len = Tokens(256);
    return options;
  }
  static BackendInfo Info(const SchedulerOptions& options) {
    BackendInfo info;
    info.name = "fake";
    info.geometry = options.geometry;
    info.device_blocks = options.device_blocks;
    info.host_blocks = options.host_blocks;
    info.disk_blocks = options.disk_blocks;
    return info;
  }
  EngineOptions Engine() {
    EngineOptions options;
    options.finder = &finder_;
    return options;
  }
  std::shared_ptr<TokenStream> Submit(int64_t id, int prompt = 100) {
    RequestSpec spec;
    spec.id = RequestId(id);
    for (int i = 0; i < prompt; ++i) spec.prompt.push_back(static_cast<TokenId>(1000 * id + i));
    spec.max_new = Tokens(2);
    spec.sampling = std::make_shared<SamplingParams>();
    auto stream = std::make_shared<TokenStream>(Tokens(1000), [] {});
    EXPECT_THAT(loop_.Submit(std::move(spec), stream), IsOk());
    return stream;
  }
  void RunUntilQuiet() {
    for (int i = 0; i < 1000 && loop_.RunOnce(); ++i) now_ += absl::Milliseconds(1);
  }
  static bool Ended(const std::vector<Event>& events) {
    return !events.empty() && events.back().finish.has_value();
  }

  absl::Time now_ = absl::FromUnixSeconds(1000);
  SchedulerOptions options_ = Options();
  FakeFinder finder_;
  Scheduler scheduler_{options_};
  FakeBackend backend_{Info(options_), [this] { return now_; }};
  EngineLoop loop_{scheduler_, backend_, nullptr, [this] { return now_; }, Engine()};
};

TEST_F(EngineFinderTest, ARequestWaitsForTheAnswerAndUsesWhatWasFound) {
  auto stream = Submit(1);
  RunUntilQuiet();
  ASSERT_THAT(finder_.asked, SizeIs(1));
  EXPECT_THAT(finder_.asked[0].blocks, SizeIs(6));  // 99 tokens
  EXPECT_THAT(stream->TakeAll(), IsEmpty());
  EXPECT_FALSE(loop_.idle());
  finder_.asked[0].answer(4);
  RunUntilQuiet();
  EXPECT_THAT(finder_.bound, SizeIs(4));
  EXPECT_TRUE(Ended(stream->TakeAll()));
  EXPECT_TRUE(loop_.idle());
}

TEST_F(EngineFinderTest, WithoutUseInAskingNobodyWaits) {
  finder_.on = false;
  auto stream = Submit(1);
  RunUntilQuiet();
  EXPECT_TRUE(Ended(stream->TakeAll()));
}

TEST_F(EngineFinderTest, WhatIsHereIsNotAskedFor) {
  auto first = Submit(1);
  RunUntilQuiet();
  finder_.asked[0].answer(0);
  RunUntilQuiet();
  EXPECT_TRUE(Ended(first->TakeAll()));
  auto again = Submit(1);
  RunUntilQuiet();
  EXPECT_TRUE(Ended(again->TakeAll()));
  EXPECT_THAT(finder_.asked, SizeIs(1));
  auto small = Submit(2, /*prompt=*/16);  // its one block holds the last token
  RunUntilQuiet();
  EXPECT_TRUE(Ended(small->TakeAll()));
}

TEST_F(EngineFinderTest, CancelledWhileItWaitsItEndsAtOnceAndALateAnswerIsIgnored) {
  auto stream = Submit(1);
  RunUntilQuiet();
  loop_.Cancel(RequestId(1));
  RunUntilQuiet();
  const std::vector<Event> events = stream->TakeAll();
  ASSERT_TRUE(Ended(events));
  EXPECT_EQ(events.back().finish->reason, FinishReason::kCancelled);
  finder_.asked[0].answer(6);
  RunUntilQuiet();
  EXPECT_THAT(finder_.bound, IsEmpty());
  EXPECT_TRUE(loop_.idle());
}

TEST_F(EngineFinderTest, AnEngineThatStopsEndsThoseThatWait) {
  auto stream = Submit(1);
  RunUntilQuiet();
  loop_.Abandon();
  const std::vector<Event> events = stream->TakeAll();
  ASSERT_TRUE(Ended(events));
  EXPECT_TRUE(absl::IsUnavailable(events.back().finish->status));
}

class EngineWarmFinderTest : public EngineFinderTest {
 protected:
  void Warm(int prompt) {
    WarmSpec spec;
    for (int i = 0; i < prompt; ++i) spec.tokens.push_back(static_cast<TokenId>(i));
    spec.tier = Tier::kHost;
    EXPECT_THAT(loop_.Warm(std::move(spec),
                           [this](absl::StatusOr<WarmResult> result) {
                             answers_.push_back(std::move(result));
                           }),
                IsOk());
    RunUntilQuiet();
  }

  std::vector<absl::StatusOr<WarmResult>> answers_;
};

TEST_F(EngineWarmFinderTest, WhatIsNotKnownHereIsAskedForAndMovedToTheTier) {
  Warm(96);
  ASSERT_THAT(finder_.asked, SizeIs(1));
  EXPECT_THAT(finder_.asked[0].blocks, SizeIs(6)) << "all of its blocks, the last one too";
  EXPECT_THAT(answers_, IsEmpty());
  EXPECT_FALSE(loop_.idle());
  finder_.asked[0].answer(4);
  RunUntilQuiet();
  EXPECT_THAT(finder_.bound, SizeIs(4));
  ASSERT_THAT(answers_, SizeIs(1));
  ASSERT_THAT(answers_[0], IsOk());
  EXPECT_EQ(answers_[0]->ready, Tokens(64));
  EXPECT_EQ(answers_[0]->missing, Tokens(32));
  EXPECT_TRUE(loop_.idle());
}

TEST_F(EngineWarmFinderTest, WithoutUseInAskingWhatIsHereCounts) {
  finder_.on = false;
  Warm(96);
  ASSERT_THAT(answers_, SizeIs(1));
  ASSERT_THAT(answers_[0], IsOk());
  EXPECT_EQ(answers_[0]->missing, Tokens(96));
}

TEST_F(EngineWarmFinderTest, AnEngineThatStopsAnswersThoseThatWait) {
  Warm(96);
  loop_.Abandon();
  ASSERT_THAT(answers_, SizeIs(1));
  EXPECT_TRUE(absl::IsUnavailable(answers_[0].status()));
  finder_.asked[0].answer(4);  // nobody listens
  RunUntilQuiet();
  EXPECT_THAT(answers_, SizeIs(1));
}

}  // namespace
}  // namespace sluice::testing
