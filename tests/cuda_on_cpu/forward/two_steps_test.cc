// Two steps in flight on the emulated device: the second one reads tokens that the host does not
// know yet, and either may fail.
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/forward/backend_harness.h"
#include "tests/support/backend_sequence.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::Generate;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::RandomModel;
using testing::RandomModelSpec;
using testing::RandomTokens;
using testing::Sequence;
using testing::StatusIs;
using testing::TokensOf;

RandomModelSpec Spec() { return testing::SmallCudaSpec(); }

CudaBackendOptions Options(int64_t blocks = 24) {
  CudaBackendOptions options = testing::SmallCudaOptions();
  options.device_blocks = Blocks(blocks);
  options.max_step_tokens = Tokens(96);
  return options;
}

Sequence MakeSequence(std::vector<TokenId> prompt, int32_t first_block, int32_t blocks = 4) {
  Sequence s = testing::MakeSequence(std::move(prompt), first_block, blocks);
  s.params = testing::Greedy(2);
  s.tokens.reserve(64);  // as the scheduler's: plans under way view them
  return s;
}

// Sequences that decode two steps deep.
class Pipeline {
 public:
  Pipeline(Backend& backend, std::vector<Sequence>& sequences)
      : backend_(backend), sequences_(sequences), drawn_(sequences.size()) {}

  // Launches a step of the sequences of `order`, in this order, each going on where the one in
  // flight leaves it; prompts in pieces of `chunk`.
  void Launch(const std::vector<size_t>& order, int64_t chunk = 64) {
    StepPlan& plan = plans_.emplace_back();
    plan.id = StepId(next_id_++);
    for (const size_t i : order) plan.sequences.push_back(Next(i, chunk));
    orders_.push_back(order);
    backend_.Launch(plan);
  }

  StepResult Wait() {
    StepResult result = backend_.Wait();
    EXPECT_EQ(result.id, plans_.front().id);
    EXPECT_LE(result.started, result.finished);
    EXPECT_GE(result.started, last_end_);
    last_end_ = result.finished;
    for (size_t row = 0; row < result.sequences.size(); ++row) {
      const SequenceWork& work = plans_.front().sequences[row];
      Sequence& s = sequences_[orders_.front()[row]];
      s.computed = (work.first + work.count).value();
      const std::optional<SampledToken>& sampled = result.sequences[row].sampled;
      if (!sampled.has_value()) continue;
      s.tokens.push_back(sampled->token);
      drawn_[orders_.front()[row]].push_back(*sampled);
    }
    plans_.pop_front();
    orders_.pop_front();
    return result;
  }

  const std::vector<SampledToken>& drawn(size_t i) const { return drawn_[i]; }

 private:
  SequenceWork Next(size_t i, int64_t chunk) const {
    const Sequence& s = sequences_[i];
    const SequenceWork work = s.Work(chunk);
    if (orders_.empty()) return work;
    const std::vector<size_t>& before = orders_.back();
    const auto at = std::find(before.begin(), before.end(), i);
    if (at == before.end()) return work;
    const SequenceWork& last =
        plans_[plans_.size() - 2].sequences[static_cast<size_t>(at - before.begin())];
    Sequence later = s;
    later.computed = (last.first + last.count).value();
    if (last.sample) later.tokens.push_back(0);
    SequenceWork next = later.Work(chunk);
    next.tokens = s.tokens;
    next.blocks = s.blocks;
    next.host_blocks = s.host_blocks;
    next.loads = {};
    next.sampling = next.sample ? &s.params : nullptr;
    if (last.sample) next.previous_row = static_cast<int32_t>(at - before.begin());
    return next;
  }

  Backend& backend_;
  std::vector<Sequence>& sequences_;
  std::vector<std::vector<SampledToken>> drawn_;
  std::deque<StepPlan> plans_;  // in flight
  std::deque<std::vector<size_t>> orders_;
  int64_t next_id_ = 1;
  absl::Time last_end_ = absl::InfinitePast();
};

class TwoStepsTest : public EmulatedTest {
 protected:
  void SetUp() override {
    cuda_emu::Config config;
    config.streams = cuda_emu::Streams::kThreads;
    cuda_emu::Reset(config);
  }

  std::unique_ptr<Backend> Make(const RandomModel& model, const CudaBackendOptions& options) {
    std::unique_ptr<Backend> backend =
        *CudaBackend::Create(model.config(), model.checkpoint(), options);
    backend->SetCopyListener([this] {
      const std::lock_guard<std::mutex> lock(mu_);
      news_ = true;
      called_.notify_all();
    });
    return backend;
  }

  // The end of the only copy there is.
  CopyResult WaitForCopy(Backend& backend) {
    while (true) {
      std::vector<CopyResult> results = backend.TakeFinishedCopies();
      if (!results.empty()) return results.front();
      std::unique_lock<std::mutex> lock(mu_);
      called_.wait(lock, [this] { return news_; });
      news_ = false;
    }
  }

  static void Start(Backend& backend, int64_t id, LinkDirection direction, Copy::Pair blocks) {
    Copy copy;
    copy.id = CopyId(id);
    copy.direction = direction;
    copy.blocks = {blocks};
    backend.StartCopies({&copy, 1});
  }

 private:
  std::mutex mu_;
  std::condition_variable called_;
  bool news_ = false;
};

std::vector<Sequence> Mixed() {
  std::vector<Sequence> sequences;
  sequences.push_back(MakeSequence(RandomTokens(20, Spec().vocab, 1), 0));
  sequences.push_back(MakeSequence(RandomTokens(9, Spec().vocab, 2), 4));
  sequences.push_back(MakeSequence(RandomTokens(31, Spec().vocab, 3), 8));
  sequences[1].params.temperature = 1.5F;
  sequences[1].params.seed = 99;
  sequences[2].params.temperature = 0.8F;
  sequences[2].params.top_k = 5;
  sequences[2].params.min_tokens = 6;
  sequences[2].params.stop_ids = {1, 2, 3, 4, 5, 6, 7};
  return sequences;
}

TEST_F(TwoStepsTest, DrawsAreThoseOfOneStepAtATime) {
  const RandomModel model(Spec());
  constexpr int kDraws = 8;
  std::vector<std::vector<SampledToken>> want;
  {
    const std::unique_ptr<Backend> backend = Make(model, Options());
    for (Sequence& s : Mixed()) want.push_back(Generate(*backend, s, kDraws, 64));
  }
  const std::unique_ptr<Backend> backend = Make(model, Options());
  EXPECT_EQ(backend->info().max_steps_in_flight, 2);
  std::vector<Sequence> sequences = Mixed();
  Pipeline pipeline(*backend, sequences);
  pipeline.Launch({0, 1, 2});
  const std::vector<std::vector<size_t>> orders = {{2, 0, 1}, {1, 2, 0}, {0, 2, 1}};
  for (size_t step = 1; step < kDraws; ++step) {
    pipeline.Launch(orders[step % orders.size()]);
    ASSERT_THAT(pipeline.Wait().status, IsOk());
  }
  ASSERT_THAT(pipeline.Wait().status, IsOk());
  for (size_t i = 0; i < sequences.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(TokensOf(pipeline.drawn(i)), TokensOf(want[i]));
    for (size_t t = 0; t < kDraws; ++t) {
      EXPECT_NEAR(pipeline.drawn(i)[t].logprob, want[i][t].logprob, 0.05);
      EXPECT_EQ(pipeline.drawn(i)[t].top.size(), 2u);
    }
  }
}

// A prompt in pieces, and one that joins later, beside a decode.
TEST_F(TwoStepsTest, PromptsGoOnBesideUnknownTokens) {
  const RandomModel model(Spec());
  std::vector<std::vector<TokenId>> want;
  {
    const std::unique_ptr<Backend> backend = Make(model, Options());
    for (Sequence& s : Mixed()) want.push_back(TokensOf(Generate(*backend, s, 3, 8)));
  }
  const std::unique_ptr<Backend> backend = Make(model, Options());
  std::vector<Sequence> sequences = Mixed();
  Pipeline pipeline(*backend, sequences);
  pipeline.Launch({1, 0}, 8);
  for (int step = 1; step < 9; ++step) {
    pipeline.Launch(step < 3 ? std::vector<size_t>{0, 1} : std::vector<size_t>{2, 1, 0}, 8);
    ASSERT_THAT(pipeline.Wait().status, IsOk());
  }
  ASSERT_THAT(pipeline.Wait().status, IsOk());
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::vector<TokenId> drawn = TokensOf(pipeline.drawn(i));
    ASSERT_GE(drawn.size(), 3u);
    EXPECT_TRUE(std::equal(want[i].begin(), want[i].end(), drawn.begin())) << i;
  }
}

// More draws than one group of logit rows has.
TEST_F(TwoStepsTest, UnknownTokensMayComeFromAnyGroupOfDraws) {
  const RandomModel model(Spec());
  constexpr int32_t kSequences = 67;
  std::vector<Sequence> sequences;
  std::vector<std::vector<TokenId>> want;
  std::vector<size_t> order(kSequences);
  std::iota(order.begin(), order.end(), size_t{0});
  for (int32_t i = 0; i < kSequences; ++i) {
    sequences.push_back(
        MakeSequence(RandomTokens(1, Spec().vocab, static_cast<uint64_t>(i)), i, 1));
    sequences.back().params.temperature = 2.0F;
    sequences.back().params.seed = static_cast<uint64_t>(i);
  }
  const std::unique_ptr<Backend> backend = Make(model, Options(kSequences));
  std::vector<Sequence> alone = sequences;
  for (size_t i : {size_t{0}, size_t{63}, size_t{64}, size_t{66}}) {
    want.push_back(TokensOf(Generate(*backend, alone[i], 3, 1)));
  }
  Pipeline pipeline(*backend, sequences);
  pipeline.Launch(order);
  std::reverse(order.begin(), order.end());
  pipeline.Launch(order);
  ASSERT_THAT(pipeline.Wait().status, IsOk());
  std::rotate(order.begin(), order.begin() + 5, order.end());
  pipeline.Launch(order);
  ASSERT_THAT(pipeline.Wait().status, IsOk());
  ASSERT_THAT(pipeline.Wait().status, IsOk());
  EXPECT_EQ(TokensOf(pipeline.drawn(0)), want[0]);
  EXPECT_EQ(TokensOf(pipeline.drawn(63)), want[1]);
  EXPECT_EQ(TokensOf(pipeline.drawn(64)), want[2]);
  EXPECT_EQ(TokensOf(pipeline.drawn(66)), want[3]);
}

TEST_F(TwoStepsTest, ALaunchThatFailsTakesTheStepBehindWithIt) {
  const RandomModel model(Spec());
  const std::unique_ptr<Backend> backend = Make(model, Options());
  for (const int nth : {1, 6, 17}) {
    std::vector<Sequence> sequences = Mixed();
    Pipeline pipeline(*backend, sequences);
    cuda_emu::FailCall(cuda_emu::Api::kLaunch, nth, cudaErrorLaunchOutOfResources);
    pipeline.Launch({0, 1, 2});
    pipeline.Launch({0, 1, 2});
    for (int i = 0; i < 2; ++i) {
      const StepResult result = pipeline.Wait();
      EXPECT_THAT(result.status,
                  StatusIs(absl::StatusCode::kInternal, HasSubstr("LaunchOutOfResources")));
      EXPECT_TRUE(result.sequences.empty());
    }
    pipeline.Launch({0});
    EXPECT_THAT(pipeline.Wait().status, IsOk());
  }
}

TEST_F(TwoStepsTest, ALaunchThatFailsLeavesTheStepBeforeAlone) {
  const RandomModel model(Spec());
  const std::unique_ptr<Backend> backend = Make(model, Options());
  std::vector<Sequence> sequences = Mixed();
  Sequence alone = sequences[0];
  const std::vector<TokenId> want = TokensOf(Generate(*backend, alone, 3, 64));
  for (const int nth : {1, 9}) {
    sequences = Mixed();
    Pipeline pipeline(*backend, sequences);
    pipeline.Launch({0, 1, 2});
    cuda_emu::FailCall(cuda_emu::Api::kLaunch, nth, cudaErrorLaunchOutOfResources);
    pipeline.Launch({0, 1, 2});
    EXPECT_THAT(pipeline.Wait().status, IsOk());
    EXPECT_THAT(pipeline.Wait().status,
                StatusIs(absl::StatusCode::kInternal, HasSubstr("LaunchOutOfResources")));
    pipeline.Launch({0});
    pipeline.Launch({0});
    EXPECT_THAT(pipeline.Wait().status, IsOk());
    EXPECT_THAT(pipeline.Wait().status, IsOk());
    EXPECT_EQ(TokensOf(pipeline.drawn(0)), want);
  }
}

// Events tell when a step is over; without them the step waits for the stream.
TEST_F(TwoStepsTest, AStepWithoutItsEventIsStillWaitedFor) {
  const RandomModel model(Spec());
  const std::unique_ptr<Backend> backend = Make(model, Options());
  std::vector<Sequence> sequences = Mixed();
  Pipeline pipeline(*backend, sequences);
  cuda_emu::FailCall(cuda_emu::Api::kEventRecord, 1, cudaErrorInvalidValue);
  pipeline.Launch({0, 1, 2});
  pipeline.Launch({0, 1, 2});
  EXPECT_THAT(pipeline.Wait().status, IsOk());
  EXPECT_THAT(pipeline.Wait().status, IsOk());
  EXPECT_EQ(pipeline.drawn(2).size(), 2u);
}

TEST_F(TwoStepsTest, ALostDeviceFailsBothSteps) {
  const RandomModel model(Spec());
  {
    const std::unique_ptr<Backend> backend = Make(model, Options());
    std::vector<Sequence> sequences = Mixed();
    Pipeline pipeline(*backend, sequences);
    cuda_emu::FailStreamOperation(9, cudaErrorIllegalAddress);
    pipeline.Launch({0, 1, 2});
    pipeline.Launch({0, 1, 2});
    for (int i = 0; i < 2; ++i) {
      EXPECT_THAT(pipeline.Wait().status,
                  StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cudaErrorIllegalAddress")));
    }
    pipeline.Launch({0});
    EXPECT_THAT(pipeline.Wait().status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("")));
  }
  Abandon();
}

// The sequence that cannot draw fails; the step behind computes it for nothing, and the others
// right.
TEST_F(TwoStepsTest, ADrawThatFailsHarmsNobodyElse) {
  const RandomModel model(Spec());
  const std::unique_ptr<Backend> backend = Make(model, Options());
  std::vector<Sequence> sequences = Mixed();
  Sequence alone = sequences[0];
  const std::vector<TokenId> want = TokensOf(Generate(*backend, alone, 2, 64));
  sequences[1].params.min_tokens = 10;
  sequences[1].params.stop_ids.clear();
  for (TokenId t = 0; t < Spec().vocab; ++t) sequences[1].params.stop_ids.push_back(t);
  Pipeline pipeline(*backend, sequences);
  pipeline.Launch({1, 0});
  pipeline.Launch({1, 0});
  const StepResult first = pipeline.Wait();
  ASSERT_THAT(first.status, IsOk());
  EXPECT_THAT(first.sequences[0].status,
              StatusIs(absl::StatusCode::kInternal, HasSubstr("no token to draw")));
  ASSERT_THAT(pipeline.Wait().status, IsOk());
  EXPECT_EQ(TokensOf(pipeline.drawn(0)), want);
}

TEST_F(TwoStepsTest, ABackendThatGoesWaitsForWhatIsInFlight) {
  const RandomModel model(Spec());
  const std::unique_ptr<Backend> backend = Make(model, Options());
  std::vector<Sequence> sequences = Mixed();
  Pipeline pipeline(*backend, sequences);
  pipeline.Launch({0, 1, 2});
  pipeline.Launch({0, 1, 2});
}

// Buffers grow with the largest step while the one before uses the old ones.
TEST_F(TwoStepsTest, BuffersGrowUnderAStepInFlight) {
  RandomModelSpec spec = Spec();
  spec.vocab = 300;
  const RandomModel model(spec);
  const std::unique_ptr<Backend> backend = Make(model, Options());
  std::vector<Sequence> sequences;
  std::vector<std::vector<TokenId>> want;
  for (int32_t i = 0; i < 20; ++i) {
    sequences.push_back(MakeSequence(RandomTokens(2, 300, static_cast<uint64_t>(i)), i, 1));
    sequences.back().params = testing::Greedy(300);  // log-probabilities of every token
  }
  std::vector<Sequence> alone = sequences;
  Pipeline pipeline(*backend, sequences);
  std::vector<size_t> order = {0};
  pipeline.Launch(order);
  for (size_t i = 1; i < 9; ++i) {
    order.push_back(i);
    if (i % 3 != 0) continue;
    pipeline.Launch(order);
    ASSERT_THAT(pipeline.Wait().status, IsOk());
  }
  ASSERT_THAT(pipeline.Wait().status, IsOk());
  for (const size_t i : {size_t{0}, size_t{1}, size_t{4}}) {
    const std::vector<TokenId> drawn = TokensOf(pipeline.drawn(i));
    EXPECT_EQ(TokensOf(Generate(*backend, alone[i], static_cast<int>(drawn.size()), 64)), drawn);
  }
}

// A store of what the first step wrote, and a load over what the second one still writes for
// nothing, both given while the second one runs.
TEST_F(TwoStepsTest, CopiesGivenBetweenTwoStepsComeBehindBoth) {
  const RandomModel model(Spec());
  const std::unique_ptr<Backend> backend = Make(model, Options());
  const std::vector<TokenId> prompt = RandomTokens(17, Spec().vocab, 4);
  std::vector<Sequence> sequences = {MakeSequence(prompt, 0), MakeSequence(prompt, 4)};
  Sequence alone = MakeSequence(prompt, 8);
  const std::vector<TokenId> want = TokensOf(Generate(*backend, alone, 4, 64));
  cuda_emu::SetKernelCost([](const cuda_emu::KernelLaunch& launch) {
    return std::string_view(launch.name) == "embedding" ? 60e3 : 0.0;
  });
  Pipeline pipeline(*backend, sequences);
  pipeline.Launch({0, 1});
  pipeline.Launch({0, 1});
  ASSERT_THAT(pipeline.Wait().status, IsOk());
  // Sequence 0 ends here. Its first block is stored; its second one, into which the step in flight
  // writes token 17, is taken for a copy of the first.
  Start(*backend, 1, LinkDirection::kDeviceToHost, {BlockId(0), BlockId(7)});
  ASSERT_THAT(WaitForCopy(*backend).status, IsOk());
  ASSERT_THAT(pipeline.Wait().status, IsOk());
  Start(*backend, 2, LinkDirection::kDeviceToHost, {BlockId(0), BlockId(3)});
  ASSERT_THAT(WaitForCopy(*backend).status, IsOk());

  // Again, with a load into the block that is written: what is loaded stays.
  sequences = {MakeSequence(prompt, 0), MakeSequence(prompt, 4)};
  Pipeline again(*backend, sequences);
  again.Launch({0, 1});
  again.Launch({0, 1});
  ASSERT_THAT(again.Wait().status, IsOk());
  Start(*backend, 3, LinkDirection::kHostToDevice, {BlockId(7), BlockId(1)});
  ASSERT_THAT(again.Wait().status, IsOk());
  ASSERT_THAT(WaitForCopy(*backend).status, IsOk());
  // The 16 tokens now lie in block 1.
  Sequence moved = MakeSequence(prompt, 12);
  moved.blocks[0] = BlockId(1);
  moved.computed = 16;
  EXPECT_EQ(TokensOf(Generate(*backend, moved, 4, 64)), want);
}

}  // namespace
}  // namespace sluice
