// The whole forward pass with 8-bit KV in the pools, against the double-precision reference, which
// rounds nothing.
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cuda/forward/forward.h"
#include "backend/reference/reference_model.h"
#include "gtest/gtest.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/forward/forward_world.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/relative_error.h"

namespace sluice::cuda {
namespace {

using testing::RandomModel;
using testing::RandomModelSpec;
using testing::RandomTokens;
using testing::RelativeError;

// Of the logits of a position, as a vector. A bf16 pass is within 2.5e-2 (forward_test.cc). E4M3
// keeps 4 bits (2.5 % of a number, in the mean) and int8 7 of the largest; sums over heads and
// tokens average that out. A wrong scale, row or half of a page gives an error near 1.
double Tolerance(KvType kv) { return kv == KvType::kFp8E4m3 ? 6e-2 : 2.5e-2; }

struct Case {
  std::string name;
  RandomModelSpec spec;
  int64_t block_tokens = 16;
  int tokens = 37;
  KvType kv = KvType::kFp8E4m3;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const KvType kv : {KvType::kFp8E4m3, KvType::kInt8}) {
    const std::string type = kv == KvType::kFp8E4m3 ? "Fp8" : "Int8";
    const auto add = [&](const char* name, RandomModelSpec spec, int64_t block, int tokens) {
      spec.dtype = DType::kBF16;
      cases.push_back({absl::StrCat(type, name), spec, block, tokens, kv});
    };
    add("Llama", {.head_dim = 64}, 16, 37);
    add("LlamaBiases", {.head_dim = 96, .attention_bias = true, .mlp_bias = true}, 48, 53);
    add("Mistral",
        {.architecture = "MistralForCausalLM", .heads = 8, .kv_heads = 1, .head_dim = 64}, 32, 31);
    add("Qwen2",
        {.architecture = "Qwen2ForCausalLM",
         .heads = 4,
         .kv_heads = 4,
         .head_dim = 80,
         .tied = true},
        16, 29);
    // Two groups of scales in a row.
    add("Qwen3", {.architecture = "Qwen3ForCausalLM", .heads = 6, .kv_heads = 3, .head_dim = 256},
        256, 59);
    add("Dim32", {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 32}, 32, 47);
    add("Dim128", {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = 128}, 64, 47);
  }
  return cases;
}

class KvTypeCaseTest : public EmulatedTest, public ::testing::WithParamInterface<Case> {};

// Most of a prompt in two chunks, the rest token by token.
TEST_P(KvTypeCaseTest, LogitsOfPrefillAndDecodeAreNearTheReference) {
  const Case& c = GetParam();
  const RandomModel model(c.spec);
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> tokens = RandomTokens(c.tokens, c.spec.vocab, 6);
  const std::vector<std::vector<double>> want = reference.Logits(tokens);
  ForwardWorld world(model.config(), model.checkpoint(),
                     {.block_tokens = c.block_tokens, .kv = c.kv});
  ExpectLogitsNear(world, tokens, want, Tolerance(c.kv));
}

INSTANTIATE_TEST_SUITE_P(Models, KvTypeCaseTest, ::testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.name; });

class KvTypeTest : public EmulatedTest {
 protected:
  static RandomModelSpec Spec() {
    RandomModelSpec spec;
    spec.head_dim = 64;
    spec.dtype = DType::kBF16;
    return spec;
  }
};

// The same codes, read by the same kernel: where blocks lie changes no bit.
TEST_F(KvTypeTest, EightBitBlocksInHostMemoryAreAttendedInPlace) {
  const RandomModel model(Spec());
  const std::vector<TokenId> tokens = RandomTokens(90, Spec().vocab, 4);
  for (const KvType kv : {KvType::kFp8E4m3, KvType::kInt8}) {
    std::vector<std::vector<float>> results;
    for (const bool in_place : {false, true}) {
      ForwardWorld world(model.config(), model.checkpoint(), {.host_blocks = 8, .kv = kv});
      std::vector<BlockId> blocks = world.TakeBlocks(90);
      world.Run({{std::span(tokens).first(80), 0, blocks}});
      // Blocks 0, 1 and 3 of the six go; their places on the device hold NaN.
      std::vector<BlockId> host(6);
      for (const size_t b : {size_t{0}, size_t{1}, size_t{3}}) {
        if (!in_place) continue;
        host[b] = BlockId(static_cast<int32_t>(7 - b));
        world.MoveToHost(blocks[b], host[b]);
        blocks[b] = BlockId();
      }
      if (!in_place) host.clear();
      results.push_back(world.Run({{std::span(tokens).subspan(80, 1), 80, blocks, true, host}})[0]);
      results.push_back(world.Run({{std::span(tokens).subspan(81, 9), 81, blocks, true, host}})[0]);
    }
    EXPECT_EQ(results[2], results[0]) << static_cast<int>(kv);
    EXPECT_EQ(results[3], results[1]) << static_cast<int>(kv);
  }
}

// How far 8 bits are from 16 shows, so that the tolerances above are not met by ignoring the type.
TEST_F(KvTypeTest, EveryTypeGivesItsOwnLogits) {
  const RandomModel model(Spec());
  const std::vector<TokenId> tokens = RandomTokens(50, Spec().vocab, 5);
  std::vector<std::vector<float>> logits;
  for (const KvType kv : {KvType::kHalf, KvType::kFp8E4m3, KvType::kInt8}) {
    ForwardWorld world(model.config(), model.checkpoint(), {.kv = kv});
    const std::vector<BlockId> blocks = world.TakeBlocks(50);
    logits.push_back(world.Run({{tokens, 0, blocks}})[0]);
  }
  const std::vector<double> plain(logits[0].begin(), logits[0].end());
  const double fp8 = RelativeError(logits[1], plain);
  const double int8 = RelativeError(logits[2], plain);
  RecordProperty("fp8", absl::StrCat(fp8));
  RecordProperty("int8", absl::StrCat(int8));
  EXPECT_GT(int8, 0);
  EXPECT_GT(fp8, int8);
}

}  // namespace
}  // namespace sluice::cuda
