// The forward pass against the double-precision reference, and its independence of batches, chunks
// and threads.
#include "backend/cpu/forward.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/reference/reference_model.h"
#include "gtest/gtest.h"
#include "tests/backend/cpu/forward_harness.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/relative_error.h"

namespace sluice {
namespace {

using testing::ForwardHarness;
using testing::ForwardHarnessOptions;
using testing::RandomModel;
using testing::RandomModelSpec;
using testing::RandomTokens;
using testing::RelativeError;
using testing::ScaledRope;

struct Case {
  std::string name;
  RandomModelSpec spec;
  int64_t page_tokens = 16;
  int tokens = 37;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  cases.push_back({"Llama", {}, 16, 37});
  cases.push_back({"LlamaTied", {.tied = true}, 48, 53});
  cases.push_back({"LlamaAllBiases", {.attention_bias = true, .mlp_bias = true}, 32, 41});
  cases.push_back({"LlamaOddIntermediate", {.intermediate = 71, .vocab = 131}, 16, 17});
  cases.push_back({"LlamaWide",
                   {.hidden = 192, .intermediate = 1100, .heads = 3, .kv_heads = 1, .vocab = 1201},
                   256,
                   67});
  cases.push_back({"LlamaLinearRope", {.rope = ScaledRope(RopeKind::kLinear)}, 16, 61});
  cases.push_back({"Llama3Rope", {.rope = ScaledRope(RopeKind::kLlama3)}, 16, 61});
  cases.push_back({"Mistral",
                   {.architecture = "MistralForCausalLM", .heads = 8, .kv_heads = 1, .head_dim = 8},
                   32,
                   31});
  cases.push_back({"MistralYarn",
                   {.architecture = "MistralForCausalLM", .rope = ScaledRope(RopeKind::kYarn)},
                   16,
                   43});
  cases.push_back({"Qwen2",
                   {.architecture = "Qwen2ForCausalLM", .heads = 4, .kv_heads = 4, .tied = true},
                   16,
                   29});
  cases.push_back({"Qwen3",
                   {.architecture = "Qwen3ForCausalLM", .heads = 6, .kv_heads = 3, .head_dim = 24},
                   48,
                   59});
  for (const int dim : {2, 8, 16, 18, 40, 64, 80, 96, 128, 256}) {
    cases.push_back({absl::StrCat("HeadDim", dim),
                     {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = dim},
                     32,
                     47});
  }
  for (int group = 1; group <= 8; ++group) {
    cases.push_back({absl::StrCat("Group", group),
                     {.heads = group * 2, .kv_heads = 2, .head_dim = 16},
                     16,
                     23});
  }
  return cases;
}

class ForwardTest : public ::testing::TestWithParam<Case> {};

TEST_P(ForwardTest, LogitsOfEveryPositionMatchTheReferenceInF32) {
  const Case& c = GetParam();
  const RandomModel model(c.spec);
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> tokens = RandomTokens(c.tokens, c.spec.vocab, 5);
  const std::vector<std::vector<double>> want = reference.Logits(tokens);

  ForwardHarness forward(model.config(), model.checkpoint(),
                         {.element = Element::kF32, .page_tokens = c.page_tokens});
  const std::vector<BlockId> blocks = forward.TakeBlocks(c.tokens);
  for (int i = 0; i < c.tokens; ++i) {
    const auto logits =
        forward.Run({{std::span(tokens).subspan(static_cast<size_t>(i), 1), i, blocks}});
    ASSERT_LT(RelativeError(logits[0], want[static_cast<size_t>(i)]), 1e-3) << "position " << i;
  }
}

TEST_P(ForwardTest, LogitsOfAPromptMatchTheReferenceInBF16) {
  const Case& c = GetParam();
  RandomModelSpec spec = c.spec;
  spec.dtype = DType::kBF16;
  const RandomModel model(spec);
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> tokens = RandomTokens(c.tokens, c.spec.vocab, 6);
  const std::vector<double> want = reference.Logits(tokens).back();

  ForwardHarness forward(model.config(), model.checkpoint(),
                         {.element = Element::kBF16, .page_tokens = c.page_tokens});
  const auto logits = forward.Run({{tokens, 0, forward.TakeBlocks(c.tokens)}});
  EXPECT_LT(RelativeError(logits[0], want), 2e-2);
}

INSTANTIATE_TEST_SUITE_P(Models, ForwardTest, ::testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.name; });

class ForwardInvarianceTest : public ::testing::TestWithParam<Element> {
 protected:
  RandomModelSpec Spec() const {
    RandomModelSpec spec;
    spec.hidden = 192;
    spec.intermediate = 1056;
    spec.heads = 6;
    spec.kv_heads = 2;
    spec.vocab = 1100;
    spec.dtype = GetParam() == Element::kF32 ? DType::kF32 : DType::kBF16;
    return spec;
  }
};

TEST_P(ForwardInvarianceTest, ChunksBatchesThreadsAndBlocksDoNotChangeABit) {
  const RandomModel model(Spec());
  const auto options = [&](int threads, uint64_t seed) {
    ForwardHarnessOptions o;
    o.element = GetParam();
    o.threads = threads;
    o.seed = seed;
    o.max_rows = 256;
    return o;
  };
  constexpr int kTokens = 113;
  const std::vector<TokenId> tokens = RandomTokens(kTokens, Spec().vocab, 7);
  ForwardHarness own(model.config(), model.checkpoint(),
                     {.element = GetParam(), .max_rows = 256, .kernels = GemmKernels::kOwn});
  const std::vector<float> by_own = own.Run({{tokens, 0, own.TakeBlocks(kTokens)}})[0];
  ForwardHarness whole(model.config(), model.checkpoint(), options(1, 1));
  const std::vector<float> want = whole.Run({{tokens, 0, whole.TakeBlocks(kTokens)}})[0];
  // Our own products differ from oneDNN's in rounding only.
  const std::vector<double> exact(want.begin(), want.end());
  EXPECT_LT(RelativeError(by_own, exact), GetParam() == Element::kF32 ? 1e-5 : 1e-2);

  for (uint64_t seed = 2; seed < 8; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    ForwardHarness chunked(model.config(), model.checkpoint(),
                           options(1 + static_cast<int>(seed % 3), seed));
    const std::vector<BlockId> blocks = chunked.TakeBlocks(kTokens);
    const std::vector<TokenId> other = RandomTokens(97, Spec().vocab, seed);
    const std::vector<BlockId> other_blocks = chunked.TakeBlocks(97);
    std::vector<float> got;
    for (size_t first = 0, other_first = 0; first < kTokens;) {
      const size_t count = std::min<size_t>(kTokens - first, 1 + random() % 40);
      std::vector<ForwardSequence> batch;
      const size_t other_count = std::min<size_t>(97 - other_first, random() % 30);
      const auto add_other = [&] {
        if (other_count == 0) return;
        batch.push_back({std::span(other).subspan(other_first, other_count),
                         static_cast<int64_t>(other_first), other_blocks});
        other_first += other_count;
      };
      if (random() % 2 == 0) add_other();
      const size_t mine = batch.size();
      batch.push_back(
          {std::span(tokens).subspan(first, count), static_cast<int64_t>(first), blocks});
      if (mine == 0) add_other();
      got = chunked.Run(batch)[mine];
      first += count;
    }
    ASSERT_EQ(got, want);
  }
}

TEST_P(ForwardInvarianceTest, MoreSequencesThanOneBlockOfLogitsAllGetTheirs) {
  const RandomModel model(Spec());
  ForwardHarnessOptions options;
  options.element = GetParam();
  options.device_blocks = 128;
  ForwardHarness forward(model.config(), model.checkpoint(), options);
  std::vector<std::vector<TokenId>> tokens;
  std::vector<std::vector<BlockId>> blocks;
  for (uint64_t i = 0; i < 70; ++i) {
    tokens.push_back(RandomTokens(1, Spec().vocab, i));
    blocks.push_back(forward.TakeBlocks(1));
  }
  std::vector<ForwardSequence> batch;
  for (size_t i = 0; i < tokens.size(); ++i) batch.push_back({tokens[i], 0, blocks[i]});
  const auto together = forward.Run(batch);
  for (size_t i = 0; i < batch.size(); ++i) {
    ASSERT_EQ(forward.Run({batch[i]})[0], together[i]) << "sequence " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Elements, ForwardInvarianceTest,
                         ::testing::Values(Element::kF32, Element::kBF16), [](const auto& test) {
                           return test.param == Element::kF32 ? "F32" : "BF16";
                         });

}  // namespace
}  // namespace sluice
