// The whole CUDA backend through its interface, on the emulated device: answers, copies, failures,
// options.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/reference/reference_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/forward/backend_harness.h"
#include "tests/support/backend_sequence.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::BackendHarness;
using testing::BlocksFrom;
using testing::Generate;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::RandomModel;
using testing::RandomModelSpec;
using testing::RandomTokens;
using testing::RunStep;
using testing::Sequence;
using testing::StatusIs;
using testing::TokensOf;

CudaBackendOptions Options() { return testing::SmallCudaOptions(); }

RandomModelSpec Spec() { return testing::SmallCudaSpec(); }

Sequence MakeSequence(std::vector<TokenId> prompt, int32_t first_block) {
  Sequence s = testing::MakeSequence(std::move(prompt), first_block, 6);
  s.params = testing::Greedy(3);
  return s;
}

class CudaBackendTest : public EmulatedTest {
 protected:
  void SetUp() override {
    cuda_emu::Config config;
    config.streams = cuda_emu::Streams::kThreads;  // as a device: nobody has to wait for it to run
    cuda_emu::Reset(config);
  }
};

// bf16 may decide differently where two tokens are nearly as likely: seeds where they are not.
TEST_F(CudaBackendTest, GreedyTokensEqualTheReferenceForEveryArchitecture) {
  for (const char* architecture :
       {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    SCOPED_TRACE(architecture);
    RandomModelSpec spec = Spec();
    spec.architecture = architecture;
    const RandomModel model(spec);
    const ReferenceModel reference(model.config(), model.checkpoint());
    const std::vector<TokenId> prompt = RandomTokens(23, spec.vocab, 1);
    BackendHarness harness(model, Options());
    Sequence s = MakeSequence(prompt, 3);
    EXPECT_EQ(TokensOf(Generate(harness.backend(), s, 10, 17)), reference.Greedy(prompt, 10));
  }
}

TEST_F(CudaBackendTest, ItSaysWhatItIs) {
  const RandomModel model(Spec());
  CudaBackendOptions options = Options();
  options.host_codec = KvCodecKind::kInt8;
  std::vector<Bytes> progress;
  options.progress = [&](Bytes done, Bytes total) {
    EXPECT_LE(done, total);
    progress.push_back(done);
  };
  BackendHarness harness(model, options);
  const BackendInfo& info = harness.backend().info();
  EXPECT_EQ(info.name, "cuda");
  EXPECT_THAT(info.device, HasSubstr("sm_90"));
  EXPECT_EQ(info.dtype, "bf16");
  EXPECT_EQ(info.device_blocks, Blocks(24));
  EXPECT_EQ(info.host_blocks, Blocks(24));
  EXPECT_EQ(info.device_block_bytes, Bytes(2 * 2 * 16 * 2 * 64 * 2));  // layers, K V, tokens, heads
  EXPECT_EQ(info.geometry.bytes_per_block, Bytes(2 * 2 * 16 * 2 * (64 + 2)));
  EXPECT_THAT(info.host_codec, HasSubstr("int8"));
  EXPECT_FALSE(info.attends_in_place);
  EXPECT_GT(progress.size(), 10u);
}

TEST_F(CudaBackendTest, BlocksThatWentToTheHostAndBackGiveTheSameTokens) {
  const RandomModel model(Spec());
  for (const bool revisit : {false, true}) {
    SCOPED_TRACE(revisit ? "moved" : "stayed");
    BackendHarness harness(model, Options());
    Sequence s = MakeSequence(RandomTokens(40, Spec().vocab, 2), 0);
    const std::vector<TokenId> start = TokensOf(Generate(harness.backend(), s, 3, 64));
    static std::vector<TokenId> stayed;
    if (revisit) {
      std::vector<Copy::Pair> out;
      std::vector<Copy::Pair> back;
      std::vector<BlockId> moved = BlocksFrom(12, 6);
      for (size_t b = 0; b < 3; ++b) {
        const BlockId host(static_cast<int32_t>(9 - 2 * b));
        out.push_back({s.blocks[b], host});
        back.push_back({host, moved[b]});
      }
      ASSERT_THAT(harness.Memory(LinkDirection::kDeviceToHost, out).status, IsOk());
      s.blocks = moved;
      // The load is slow: it ends after everything in the step that does not wait for it. The step
      // writes into its last block.
      cuda_emu::SetKernelCost([](const cuda_emu::KernelLaunch& launch) {
        return std::string_view(launch.name) == "kv_copy" ? 60e3 : 0.0;
      });
      s.loads = {harness.Start(LinkDirection::kHostToDevice, back)};
      EXPECT_EQ(TokensOf(Generate(harness.backend(), s, 5, 64)), stayed);
      EXPECT_THAT(harness.TakeOne().status, IsOk());
      const ActivitySnapshot activity = harness.backend().activity();
      EXPECT_GT(activity.links[0].moved, Bytes(0));
      EXPECT_GT(activity.links[1].moved, Bytes(0));
    } else {
      stayed = TokensOf(Generate(harness.backend(), s, 5, 64));
    }
    EXPECT_EQ(start.size(), 3u);
  }
}

TEST_F(CudaBackendTest, QuantizedBlocksComeBackNearlyTheSame) {
  const RandomModel model(Spec());
  const ReferenceModel reference(model.config(), model.checkpoint());
  for (const KvCodecKind codec : {KvCodecKind::kFp8, KvCodecKind::kInt8}) {
    CudaBackendOptions options = Options();
    options.host_codec = codec;
    BackendHarness harness(model, options);
    Sequence s = MakeSequence(RandomTokens(40, Spec().vocab, 2), 0);
    Generate(harness.backend(), s, 1, 64);
    ASSERT_THAT(harness
                    .Memory(LinkDirection::kDeviceToHost,
                            {{s.blocks[0], BlockId(5)}, {s.blocks[1], BlockId(2)}})
                    .status,
                IsOk());
    s.blocks[0] = BlockId(20);
    s.blocks[1] = BlockId(21);
    s.loads = {harness.Start(LinkDirection::kHostToDevice,
                             {{BlockId(5), s.blocks[0]}, {BlockId(2), s.blocks[1]}})};
    const std::vector<SampledToken> drawn = Generate(harness.backend(), s, 1, 64);
    // The reference's probability of what was drawn, and ours.
    std::vector<double> logits = reference.Logits(std::span(s.tokens).first(41)).back();
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit);
    EXPECT_NEAR(drawn[0].logprob, logits[static_cast<size_t>(drawn[0].token)] - std::log(sum), 0.3);
  }
}

TEST_F(CudaBackendTest, HostBlocksAreAttendedInPlace) {
  const RandomModel model(Spec());
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> prompt = RandomTokens(50, Spec().vocab, 5);
  BackendHarness harness(model, Options());
  ASSERT_TRUE(harness.backend().info().attends_in_place);
  Sequence s = MakeSequence(prompt, 0);
  std::vector<TokenId> drawn = TokensOf(Generate(harness.backend(), s, 1, 64));
  ASSERT_THAT(harness
                  .Memory(LinkDirection::kDeviceToHost,
                          {{s.blocks[0], BlockId(4)}, {s.blocks[2], BlockId(1)}})
                  .status,
              IsOk());
  s.host_blocks = {BlockId(4), BlockId(), BlockId(1)};
  s.blocks[0] = s.blocks[2] = BlockId();
  const std::vector<TokenId> more = TokensOf(Generate(harness.backend(), s, 5, 64));
  drawn.insert(drawn.end(), more.begin(), more.end());
  EXPECT_EQ(drawn, reference.Greedy(prompt, 6));
}

TEST_F(CudaBackendTest, ALoadThatFailsFailsItsSequenceOnly) {
  const RandomModel model(Spec());
  const std::vector<TokenId> prompt = RandomTokens(30, Spec().vocab, 7);
  const ReferenceModel reference(model.config(), model.checkpoint());
  BackendHarness harness(model, Options());
  Sequence good = MakeSequence(prompt, 0);
  Sequence bad = MakeSequence(prompt, 6);
  Generate(harness.backend(), bad, 1, 64);
  // Nobody has started this copy.
  bad.loads = {CopyId(77)};
  const StepResult result = RunStep(harness.backend(), {bad.Work(64), good.Work(64)});
  ASSERT_THAT(result.status, IsOk());
  EXPECT_THAT(result.sequences[0].status, StatusIs(absl::StatusCode::kInternal, HasSubstr("77")));
  EXPECT_FALSE(result.sequences[0].sampled.has_value());
  ASSERT_THAT(result.sequences[1].status, IsOk());
  EXPECT_EQ(result.sequences[1].sampled->token, reference.Greedy(prompt, 1)[0]);
}

// Time in which the compute stream waits for a slow load is stall, of the sequence that waits.
TEST_F(CudaBackendTest, WaitingForALoadIsBookedAsStall) {
  // Copies this small go through the gather kernel.
  cuda_emu::SetKernelCost([](const cuda_emu::KernelLaunch& launch) {
    return std::string_view(launch.name) == "kv_copy" ? 150e3 : 0.0;
  });
  const RandomModel model(Spec());
  BackendHarness harness(model, Options());
  const std::vector<TokenId> prompt = RandomTokens(33, Spec().vocab, 7);
  Sequence loading = MakeSequence(prompt, 0);
  loading.computed = 32;
  Sequence other = MakeSequence(RandomTokens(5, Spec().vocab, 8), 6);
  loading.loads = {harness.Start(LinkDirection::kHostToDevice,
                                 {{BlockId(0), BlockId(0)}, {BlockId(1), BlockId(1)}})};
  const StepResult result = RunStep(harness.backend(), {loading.Work(8), other.Work(8)});
  ASSERT_THAT(result.status, IsOk());
  EXPECT_GT(result.load_stall, absl::Milliseconds(5));
  EXPECT_LT(result.load_stall, result.finished - result.started);
  EXPECT_EQ(result.sequences[0].load_stall, result.load_stall);
  EXPECT_EQ(result.sequences[1].load_stall, absl::ZeroDuration());
  const ActivitySnapshot activity = harness.backend().activity();
  EXPECT_EQ(activity.load_stall, result.load_stall);
  EXPECT_THAT(harness.TakeOne().status, IsOk());
  // The load is there: nobody waits for it again.
  loading.computed = 32;
  EXPECT_EQ(RunStep(harness.backend(), {loading.Work(8)}).load_stall, absl::ZeroDuration());
}

TEST_F(CudaBackendTest, SeededDrawsDoNotDependOnWhatRunsBeside) {
  const RandomModel model(Spec());
  const auto sampled = [&](const std::vector<int>& lengths) {
    BackendHarness harness(model, Options());
    std::vector<Sequence> sequences;
    for (size_t i = 0; i < lengths.size(); ++i) {
      sequences.push_back(
          MakeSequence(RandomTokens(lengths[i], Spec().vocab, 3), static_cast<int32_t>(6 * i)));
      sequences.back().params.temperature = 1.5F;
      sequences.back().params.seed = 99;
    }
    std::vector<TokenId> drawn;
    for (int step = 0; step < 8; ++step) {
      std::vector<SequenceWork> works;
      for (const Sequence& s : sequences) works.push_back(s.Work(64));
      const StepResult result = RunStep(harness.backend(), works);
      for (size_t i = 0; i < sequences.size(); ++i) {
        Sequence& s = sequences[i];
        s.computed += works[i].count.value();
        s.tokens.push_back(result.sequences[i].sampled->token);
        if (i == 0) drawn.push_back(s.tokens.back());
      }
    }
    return drawn;
  };
  const std::vector<TokenId> alone = sampled({20});
  EXPECT_EQ(sampled({20, 9}), alone);
  EXPECT_EQ(sampled({20, 13, 11}), alone);
}

// After an illegal address nothing works on a device any more.
TEST_F(CudaBackendTest, ALostDeviceFailsEveryFurtherStep) {
  const RandomModel model(Spec());
  {
    BackendHarness harness(model, Options());
    Sequence s = MakeSequence(RandomTokens(20, Spec().vocab, 3), 0);
    cuda_emu::FailStreamOperation(9, cudaErrorIllegalAddress);
    for (int i = 0; i < 2; ++i) {
      const StepResult result = RunStep(harness.backend(), {s.Work(64)});
      EXPECT_THAT(result.status,
                  StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cudaErrorIllegalAddress")));
      EXPECT_THAT(std::string(result.status.message()), HasSubstr("restart"));
      EXPECT_TRUE(result.sequences.empty());
    }
    EXPECT_THAT(harness.Memory(LinkDirection::kDeviceToHost, {{BlockId(0), BlockId(0)}}).status,
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("")));
  }
  Abandon();
}

// One call that fails fails its step; the next one is fine.
TEST_F(CudaBackendTest, ALaunchThatFailsFailsItsStepOnly) {
  const RandomModel model(Spec());
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> prompt = RandomTokens(20, Spec().vocab, 3);
  BackendHarness harness(model, Options());
  Sequence s = MakeSequence(prompt, 0);
  for (const int nth : {1, 5, 12, 20}) {
    cuda_emu::FailCall(cuda_emu::Api::kLaunch, nth, cudaErrorLaunchOutOfResources);
    const StepResult result = RunStep(harness.backend(), {s.Work(64)});
    EXPECT_FALSE(result.status.ok());
    EXPECT_THAT(std::string(result.status.message()), HasSubstr("LaunchOutOfResources"));
  }
  EXPECT_EQ(TokensOf(Generate(harness.backend(), s, 2, 64)), reference.Greedy(prompt, 2));
}

TEST_F(CudaBackendTest, ThePoolTakesItsShareOfMemory) {
  const RandomModel model(Spec());
  cuda_emu::Config config = cuda_emu::CurrentConfig();
  config.device_bytes = 16 << 20;
  config.multiprocessors = 4;  // buffers for split attention are sized by them
  cuda_emu::Reset(config);
  CudaBackendOptions options = Options();
  options.device_blocks.reset();
  options.gpu_memory_utilization = 0.5;
  Blocks half;
  {
    BackendHarness harness(model, options);
    half = harness.backend().info().device_blocks;
    const int64_t bytes = half.value() * harness.backend().info().device_block_bytes.value();
    EXPECT_LT(bytes, 8 << 20);
    EXPECT_GT(bytes, 6 << 20);
  }
  options.gpu_memory_utilization = 0.9;
  BackendHarness harness(model, options);
  EXPECT_GT(harness.backend().info().device_blocks, half);
}

TEST_F(CudaBackendTest, WhatCannotBeIsRefusedInOneLine) {
  const RandomModel model(Spec());
  const auto create = [&](const CudaBackendOptions& options) {
    return CudaBackend::Create(model.config(), model.checkpoint(), options).status();
  };
  CudaBackendOptions options = Options();
  options.host_codec = KvCodecKind::kInt4;
  EXPECT_THAT(create(options), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("int4")));
  options = Options();
  options.tokens_per_block = Tokens(24);
  EXPECT_THAT(create(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("tokens_per_block is 24; want a multiple")));
  options = Options();
  options.device = "7";
  EXPECT_THAT(create(options), StatusIs(absl::StatusCode::kNotFound, HasSubstr("7")));
  options = Options();
  options.device_blocks = Blocks(1 << 20);
  EXPECT_THAT(create(options),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("device KV pool")));
  cuda_emu::Config config = cuda_emu::CurrentConfig();
  config.devices = 0;
  cuda_emu::Reset(config);
  EXPECT_THAT(create(Options()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("")));
}

}  // namespace
}  // namespace sluice
