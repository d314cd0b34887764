// The whole CPU backend through its interface: answers, copies, failures, options.
#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/backend_sequence.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::Generate;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeSequence;
using testing::RandomModel;
using testing::RandomModelSpec;
using testing::RandomTokens;
using testing::Sequence;
using testing::StatusIs;
using testing::TokensOf;

CpuBackendOptions Options() {
  CpuBackendOptions options;
  options.tokens_per_block = Tokens(16);
  options.device_blocks = Blocks(64);
  options.host_blocks = Blocks(64);
  options.max_model_len = Tokens(256);
  options.max_step_tokens = Tokens(64);
  options.threads = 2;
  options.pin_threads = false;
  return options;
}

// A backend, and copies that can be waited for.
class Harness {
 public:
  Harness(const RandomModel& model, const CpuBackendOptions& options) {
    backend_ = *CpuBackend::Create(model.config(), model.checkpoint(), options);
    backend_->SetCopyListener([this] {
      std::lock_guard<std::mutex> lock(mu_);
      ++calls_;
      called_.notify_all();
    });
  }

  Backend& backend() { return *backend_; }

  CopyId Start(LinkDirection direction, std::vector<Copy::Pair> blocks) {
    Copy copy;
    copy.id = CopyId(++copies_);
    copy.direction = direction;
    copy.blocks = std::move(blocks);
    backend_->StartCopies({&copy, 1});
    return copy.id;
  }
  CopyResult TakeOne() {
    while (true) {
      for (CopyResult& result : backend_->TakeFinishedCopies())
        results_.push_back(std::move(result));
      if (!results_.empty()) break;
      std::unique_lock<std::mutex> lock(mu_);
      called_.wait(lock, [this] { return calls_ > 0; });
      calls_ = 0;
    }
    CopyResult result = results_.front();
    results_.erase(results_.begin());
    return result;
  }

 private:
  std::mutex mu_;
  std::condition_variable called_;
  int calls_ = 0;
  int64_t copies_ = 0;
  std::vector<CopyResult> results_;
  std::unique_ptr<Backend> backend_;  // last: its listener uses the others until it is gone
};

// A step that must succeed.
StepResult RunStep(Backend& backend, std::span<const SequenceWork> works) {
  StepResult result = testing::RunStep(backend, {works.begin(), works.end()});
  EXPECT_THAT(result.status, IsOk());
  EXPECT_EQ(result.sequences.size(), works.size());
  return result;
}

bool SameLogprob(const TokenLogprob& a, const TokenLogprob& b) {
  return a.token == b.token && a.logprob == b.logprob;
}

void ExpectSameDraws(const std::vector<SampledToken>& a, const std::vector<SampledToken>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].token, b[i].token) << i;
    ASSERT_EQ(a[i].logprob, b[i].logprob) << i;
    ASSERT_TRUE(
        std::equal(a[i].top.begin(), a[i].top.end(), b[i].top.begin(), b[i].top.end(), SameLogprob))
        << i;
  }
}

TEST(CpuBackendTest, GreedyTokensEqualTheReferenceForEveryArchitectureInF32) {
  for (const char* architecture :
       {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      SCOPED_TRACE(absl::StrCat(architecture, " seed ", seed));
      RandomModelSpec spec;
      spec.architecture = architecture;
      spec.head_dim = 8 << (seed % 3);
      spec.seed = seed;
      const RandomModel model(spec);
      const ReferenceModel reference(model.config(), model.checkpoint());
      const std::vector<TokenId> prompt =
          RandomTokens(11 + static_cast<int>(seed) * 6, spec.vocab, seed);
      Harness harness(model, Options());
      Sequence s = MakeSequence(prompt, 0);
      EXPECT_EQ(TokensOf(Generate(harness.backend(), s, 24, 17)), reference.Greedy(prompt, 24));
    }
  }
}

TEST(CpuBackendTest, LogprobsMatchTheReference) {
  const RandomModelSpec spec;
  const RandomModel model(spec);
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> prompt = RandomTokens(19, spec.vocab, 1);
  const std::vector<double> logits = reference.Logits(prompt).back();
  double sum = 0;
  for (const double l : logits) sum += std::exp(l);
  Harness harness(model, Options());
  Sequence s = MakeSequence(prompt, 0);
  const SampledToken drawn = Generate(harness.backend(), s, 1, 64)[0];
  ASSERT_EQ(drawn.top.size(), 5U);
  EXPECT_EQ(drawn.top[0].token, drawn.token);
  for (const TokenLogprob& top : drawn.top) {
    EXPECT_NEAR(top.logprob, logits[static_cast<size_t>(top.token)] - std::log(sum), 1e-4);
  }
}

TEST(CpuBackendTest, AStoredAndReloadedPrefixGivesBitwiseTheSameAnswer) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const double gbps : {0.0, 0.02}) {
      SCOPED_TRACE(absl::StrCat(DTypeName(dtype), " link ", gbps));
      RandomModelSpec spec;
      spec.layers = 4;
      spec.dtype = dtype;
      const RandomModel model(spec);
      CpuBackendOptions options = Options();
      options.link_gbps = gbps;
      Harness harness(model, options);
      const std::vector<TokenId> prompt = RandomTokens(53, spec.vocab, 3);
      Sequence first = MakeSequence(prompt, 0);
      const std::vector<SampledToken> want = Generate(harness.backend(), first, 10, 64);

      // The three full blocks go to the host and come back elsewhere while the step already runs.
      const CopyId store = harness.Start(
          LinkDirection::kDeviceToHost,
          {{BlockId(0), BlockId(9)}, {BlockId(1), BlockId(4)}, {BlockId(2), BlockId(7)}});
      EXPECT_EQ(harness.TakeOne().id, store);
      Sequence again = MakeSequence(prompt, 20);
      again.computed = 48;
      again.loads = {harness.Start(
          LinkDirection::kHostToDevice,
          {{BlockId(9), BlockId(20)}, {BlockId(4), BlockId(21)}, {BlockId(7), BlockId(22)}})};
      ExpectSameDraws(Generate(harness.backend(), again, 10, 64), want);
      EXPECT_THAT(harness.TakeOne().status, IsOk());
    }
  }
}

// Blocks attended to in place, mixed with blocks on the device and blocks that are being loaded;
// the rest of the prompt in chunks, then decoded.
TEST(CpuBackendTest, APrefixAttendedToInPlaceGivesBitwiseTheSameAnswer) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t chunk : {3, 64}) {
      SCOPED_TRACE(absl::StrCat(DTypeName(dtype), " chunks of ", chunk));
      RandomModelSpec spec;
      spec.layers = 4;
      spec.heads = 6;
      spec.kv_heads = 2;
      spec.hidden = 48;
      spec.dtype = dtype;
      const RandomModel model(spec);
      Harness harness(model, Options());
      ASSERT_TRUE(harness.backend().info().attends_in_place);
      const std::vector<TokenId> prompt = RandomTokens(75, spec.vocab, 3);
      Sequence first = MakeSequence(prompt, 0);
      const std::vector<SampledToken> want = Generate(harness.backend(), first, 10, 64);

      harness.Start(
          LinkDirection::kDeviceToHost,
          {{BlockId(0), BlockId(63)}, {BlockId(2), BlockId(4)}, {BlockId(3), BlockId(0)}});
      ASSERT_THAT(harness.TakeOne().status, IsOk());
      Sequence again = MakeSequence(prompt, 20);
      again.computed = 64;
      again.blocks[0] = BlockId();   // in place
      again.blocks[1] = BlockId(1);  // on the device
      again.blocks[2] = BlockId();   // in place
      again.host_blocks = {BlockId(63), BlockId(), BlockId(4)};
      again.loads = {harness.Start(LinkDirection::kHostToDevice, {{BlockId(0), BlockId(23)}})};
      ExpectSameDraws(Generate(harness.backend(), again, 10, chunk), want);
      EXPECT_THAT(harness.TakeOne().status, IsOk());
    }
  }
}

TEST(CpuBackendTest, AnEncodedPrefixAnswersTheSameLoadedOrAttendedToInPlace) {
  for (const KvCodecKind kind : {KvCodecKind::kFp8, KvCodecKind::kInt8}) {
    SCOPED_TRACE(std::string(KvCodecKindName(kind)));
    RandomModelSpec spec;
    spec.layers = 3;
    spec.dtype = DType::kBF16;
    const RandomModel model(spec);
    CpuBackendOptions options = Options();
    options.host_codec = kind;
    Harness harness(model, options);
    const BackendInfo& info = harness.backend().info();
    ASSERT_TRUE(info.attends_in_place);
    EXPECT_THAT(info.host_codec, HasSubstr(std::string(KvCodecKindName(kind))));
    EXPECT_LT(info.geometry.bytes_per_block.value(), info.device_block_bytes.value() * 0.65);
    const std::vector<TokenId> prompt = RandomTokens(75, spec.vocab, 3);
    Sequence first = MakeSequence(prompt, 0);
    const std::vector<SampledToken> exact = Generate(harness.backend(), first, 1, 64);
    harness.Start(LinkDirection::kDeviceToHost,
                  {{BlockId(0), BlockId(9)}, {BlockId(1), BlockId(4)}, {BlockId(2), BlockId(0)}});
    const CopyResult stored = harness.TakeOne();
    ASSERT_THAT(stored.status, IsOk());
    EXPECT_EQ(stored.bytes, Bytes(3 * info.geometry.bytes_per_block.value()));
    Sequence loaded = MakeSequence(prompt, 20);
    loaded.computed = 48;
    loaded.loads = {harness.Start(
        LinkDirection::kHostToDevice,
        {{BlockId(9), BlockId(20)}, {BlockId(4), BlockId(21)}, {BlockId(0), BlockId(22)}})};
    const std::vector<SampledToken> want = Generate(harness.backend(), loaded, 10, 64);
    EXPECT_THAT(harness.TakeOne().status, IsOk());
    EXPECT_NE(want[0].logprob, exact[0].logprob) << "nothing was rounded";
    EXPECT_NEAR(want[0].logprob, exact[0].logprob, 0.1);
    Sequence in_place = MakeSequence(prompt, 40);
    in_place.computed = 48;
    in_place.blocks[0] = in_place.blocks[1] = in_place.blocks[2] = BlockId();
    in_place.host_blocks = {BlockId(9), BlockId(4), BlockId(0)};
    ExpectSameDraws(Generate(harness.backend(), in_place, 10, 64), want);
  }
}

TEST(CpuBackendTest, WhatIsDecodedAsAWholeIsNotAttendedToInPlace) {
  const RandomModel model(RandomModelSpec{});
  CpuBackendOptions options = Options();
  options.host_codec = KvCodecKind::kInt4;
  EXPECT_FALSE(Harness(model, options).backend().info().attends_in_place);
  options.disk_codec = KvCodecKind::kInt8;
  EXPECT_THAT(
      CpuBackend::DiskCodec(model.config(), model.checkpoint(), options).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("behind a host pool of int4")));
}

TEST(CpuBackendTest, InPlaceTokensEqualTheReference) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RandomModelSpec spec;
    spec.head_dim = 8 << (seed % 3);
    spec.heads = 4;
    spec.kv_heads = seed % 2 == 0 ? 1 : 4;
    spec.seed = seed;
    const RandomModel model(spec);
    const ReferenceModel reference(model.config(), model.checkpoint());
    const std::vector<TokenId> prompt = RandomTokens(40, spec.vocab, seed);
    Harness harness(model, Options());
    Sequence s = MakeSequence({prompt.begin(), prompt.begin() + 32}, 0);
    Generate(harness.backend(), s, 1, 64);
    harness.Start(LinkDirection::kDeviceToHost,
                  {{BlockId(0), BlockId(5)}, {BlockId(1), BlockId(3)}});
    ASSERT_THAT(harness.TakeOne().status, IsOk());
    Sequence in_place = MakeSequence(prompt, 20);
    in_place.computed = 32;
    in_place.blocks[0] = in_place.blocks[1] = BlockId();
    in_place.host_blocks = {BlockId(5), BlockId(3)};
    EXPECT_EQ(TokensOf(Generate(harness.backend(), in_place, 24, 64)),
              reference.Greedy(prompt, 24));
  }
}

TEST(CpuBackendTest, AttendsInPlaceOnlyWithAHostPoolThatNeedsNoChecks) {
  const RandomModel model(RandomModelSpec{});
  CpuBackendOptions options = Options();
  EXPECT_TRUE(Harness(model, options).backend().info().attends_in_place);
  options.verify_host_blocks = true;
  EXPECT_FALSE(Harness(model, options).backend().info().attends_in_place);
  options = Options();
  options.host_blocks = Blocks(0);
  EXPECT_FALSE(Harness(model, options).backend().info().attends_in_place);
}

TEST(CpuBackendTest, AStepThatWaitsForALoadReportsTheStall) {
  RandomModelSpec spec;
  spec.layers = 4;
  const RandomModel model(spec);
  CpuBackendOptions options = Options();
  options.link_gbps = 0.001;  // 16 KiB blocks: 16 ms
  Harness harness(model, options);
  Sequence other = MakeSequence(RandomTokens(5, spec.vocab, 4), 0);
  Sequence loading = MakeSequence(RandomTokens(17, spec.vocab, 5), 20);
  loading.computed = 16;
  loading.loads = {harness.Start(LinkDirection::kHostToDevice, {{BlockId(9), BlockId(20)}})};
  const std::vector<SequenceWork> works = {other.Work(64), loading.Work(64)};
  const StepResult result = RunStep(harness.backend(), works);
  EXPECT_EQ(result.sequences[0].load_stall, absl::ZeroDuration());
  EXPECT_GT(result.sequences[1].load_stall, absl::ZeroDuration());
  EXPECT_EQ(result.sequences[1].load_stall, result.load_stall);
  EXPECT_LE(result.load_stall, result.finished - result.started);
  const ActivitySnapshot activity = harness.backend().activity();
  EXPECT_EQ(activity.load_stall, result.load_stall);
  EXPECT_GT(activity.compute_only + activity.both, absl::ZeroDuration());
}

TEST(CpuBackendTest, ACorruptedHostBlockFailsItsSequenceAndNoOther) {
  const RandomModelSpec spec;
  const RandomModel model(spec);
  CpuBackendOptions options = Options();
  options.verify_host_blocks = true;
  Harness harness(model, options);
  // Host block 3 was never stored: its checksum does not match.
  Sequence broken = MakeSequence(RandomTokens(17, spec.vocab, 6), 20);
  broken.computed = 16;
  broken.loads = {harness.Start(LinkDirection::kHostToDevice, {{BlockId(3), BlockId(20)}})};
  Sequence fine = MakeSequence(RandomTokens(17, spec.vocab, 7), 0);
  const std::vector<SequenceWork> works = {broken.Work(64), fine.Work(64)};
  const StepResult result = RunStep(harness.backend(), works);
  EXPECT_THAT(result.sequences[0].status,
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("block 3")));
  EXPECT_FALSE(result.sequences[0].sampled.has_value());
  ASSERT_THAT(result.sequences[1].status, IsOk());

  Harness clean(model, Options());
  Sequence alone = MakeSequence(RandomTokens(17, spec.vocab, 7), 0);
  ExpectSameDraws({*result.sequences[1].sampled}, Generate(clean.backend(), alone, 1, 64));
}

TEST(CpuBackendTest, BatchedSequencesAnswerAsIfAlone) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    RandomModelSpec spec;
    spec.dtype = dtype;
    const RandomModel model(spec);
    CpuBackendOptions options = Options();
    options.max_step_tokens = Tokens(256);
    Harness harness(model, options);
    std::vector<Sequence> batch;
    std::vector<std::vector<SampledToken>> want;
    for (uint64_t i = 0; i < 7; ++i) {
      SamplingParams params = testing::Greedy(5);
      params.temperature = i % 2 == 0 ? 0.0F : 0.8F;
      params.top_p = i % 3 == 0 ? 0.9F : 1.0F;
      params.seed = i;
      Sequence s = MakeSequence(RandomTokens(3 + static_cast<int>(i) * 5, spec.vocab, i),
                                static_cast<int32_t>(i) * 8);
      s.params = params;
      batch.push_back(s);
      want.push_back(Generate(harness.backend(), s, 6, 64));
    }
    std::vector<std::vector<SampledToken>> got(batch.size());
    for (int step = 0; step < 6; ++step) {
      std::vector<SequenceWork> works;
      for (const Sequence& s : batch) works.push_back(s.Work(64));
      const StepResult result = RunStep(harness.backend(), works);
      for (size_t i = 0; i < batch.size(); ++i) {
        got[i].push_back(*result.sequences[i].sampled);
        batch[i].computed = static_cast<int64_t>(batch[i].tokens.size());
        batch[i].tokens.push_back(got[i].back().token);
      }
    }
    for (size_t i = 0; i < batch.size(); ++i) {
      SCOPED_TRACE(absl::StrCat(DTypeName(dtype), " sequence ", i));
      ExpectSameDraws(got[i], want[i]);
    }
  }
}

TEST(CpuBackendTest, InfoSaysWhatRuns) {
  RandomModelSpec spec;
  spec.dtype = DType::kF16;
  const RandomModel model(spec);
  CpuBackendOptions options = Options();
  options.link_gbps = 12.5;
  options.dtype = CpuDType::kF32;
  Harness harness(model, options);
  const BackendInfo& info = harness.backend().info();
  EXPECT_EQ(info.name, "cpu");
  EXPECT_THAT(info.device, HasSubstr("2 threads"));
  EXPECT_EQ(info.dtype, "f32");
  EXPECT_EQ(info.geometry.bytes_per_block, Bytes(2 * 2 * 2 * 8 * 16 * 4));
  EXPECT_EQ(info.geometry.bytes_per_block,
            CpuBackend::Geometry(model.config(), model.checkpoint(), options)->bytes_per_block);
  EXPECT_EQ(info.layers, 2);
  EXPECT_EQ(info.vocab_size, 96);
  EXPECT_TRUE(info.link_emulated);
  EXPECT_DOUBLE_EQ(info.link_bytes_per_second, 12.5e9);
}

TEST(CpuBackendTest, AnEmptyPlanIsAStep) {
  const RandomModel model((RandomModelSpec()));
  Harness harness(model, Options());
  RunStep(harness.backend(), {});
}

TEST(CpuBackendTest, OptionsOutOfRangeAreNamed) {
  const RandomModel model((RandomModelSpec()));
  const auto expect_refused = [&](const char* name, const auto& change) {
    CpuBackendOptions options = Options();
    change(options);
    EXPECT_THAT(CpuBackend::Create(model.config(), model.checkpoint(), options),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name)));
    EXPECT_THAT(CpuBackend::Geometry(model.config(), model.checkpoint(), options),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name)));
  };
  for (const int64_t tokens : {0, 8, 20, 272}) {
    expect_refused("tokens_per_block", [&](auto& o) { o.tokens_per_block = Tokens(tokens); });
  }
  expect_refused("device_blocks", [](auto& o) { o.device_blocks = Blocks(0); });
  expect_refused("host_blocks", [](auto& o) { o.host_blocks = Blocks(-1); });
  expect_refused("max_model_len", [](auto& o) { o.max_model_len = Tokens(0); });
  expect_refused("max_step_tokens", [](auto& o) { o.max_step_tokens = Tokens(0); });
  expect_refused("threads", [](auto& o) { o.threads = -1; });
  expect_refused("link_gbps", [](auto& o) { o.link_gbps = -2; });
}

TEST(CpuBackendTest, APoolThatCannotBeAllocatedIsRefused) {
  const RandomModel model((RandomModelSpec()));
  CpuBackendOptions options = Options();
  options.device_blocks = Blocks(INT32_MAX);
  EXPECT_THAT(CpuBackend::Create(model.config(), model.checkpoint(), options),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("device KV pool")));
}

}  // namespace
}  // namespace sluice
