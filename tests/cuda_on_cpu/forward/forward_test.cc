// The whole forward pass on the emulated device against the double-precision reference.
#include "backend/cuda/forward/forward.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/reference/reference_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/forward/forward_world.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/relative_error.h"
#include "tests/support/status_matchers.h"

namespace sluice::cuda {
namespace {

using ::testing::HasSubstr;
using testing::RandomModel;
using testing::RandomModelSpec;
using testing::RandomTokens;
using testing::RelativeError;
using testing::ScaledRope;
using testing::StatusIs;

// Of the logits of a position, as a vector. bf16 keeps 8 bits: 2^-9 per rounding, some ten
// roundings a layer add up to this; a wrong head, position or block gives an error near 1.
constexpr double kTolerance = 2.5e-2;

struct Case {
  std::string name;
  RandomModelSpec spec;
  int64_t block_tokens = 16;
  int tokens = 37;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  cases.push_back({"Llama", {.head_dim = 64}, 16, 37});
  cases.push_back({"LlamaTied", {.head_dim = 64, .tied = true}, 48, 53});
  cases.push_back(
      {"LlamaAllBiases", {.head_dim = 64, .attention_bias = true, .mlp_bias = true}, 32, 41});
  cases.push_back(
      {"LlamaOddSizes",
       {.hidden = 66, .intermediate = 70, .heads = 3, .kv_heads = 1, .head_dim = 80, .vocab = 131},
       16,
       17});
  cases.push_back(
      {"LlamaLinearRope", {.head_dim = 64, .rope = ScaledRope(RopeKind::kLinear)}, 16, 61});
  cases.push_back({"Llama3Rope", {.head_dim = 64, .rope = ScaledRope(RopeKind::kLlama3)}, 16, 61});
  cases.push_back(
      {"Mistral",
       {.architecture = "MistralForCausalLM", .heads = 8, .kv_heads = 1, .head_dim = 64},
       32,
       31});
  cases.push_back(
      {"MistralYarn",
       {.architecture = "MistralForCausalLM", .head_dim = 96, .rope = ScaledRope(RopeKind::kYarn)},
       16,
       43});
  cases.push_back({"Qwen2",
                   {.architecture = "Qwen2ForCausalLM",
                    .heads = 4,
                    .kv_heads = 4,
                    .head_dim = 80,
                    .tied = true},
                   16,
                   29});
  cases.push_back({"Qwen3",
                   {.architecture = "Qwen3ForCausalLM", .heads = 6, .kv_heads = 3, .head_dim = 128},
                   256,
                   59});
  cases.push_back({"Qwen3Biases",
                   {.architecture = "Qwen3ForCausalLM", .head_dim = 64, .attention_bias = true},
                   16,
                   19});
  for (const int dim : {32, 64, 80, 96, 128, 256}) {
    cases.push_back({absl::StrCat("HeadDim", dim),
                     {.layers = 1, .heads = 4, .kv_heads = 2, .head_dim = dim},
                     32,
                     47});
  }
  for (int group = 1; group <= 8; ++group) {
    cases.push_back({absl::StrCat("Group", group),
                     {.layers = 1, .heads = group * 2, .kv_heads = 2, .head_dim = 64},
                     16,
                     23});
  }
  for (Case& c : cases) c.spec.dtype = DType::kBF16;
  return cases;
}

class ForwardCaseTest : public EmulatedTest, public ::testing::WithParamInterface<Case> {};

// Most of a prompt in two chunks, the rest token by token.
TEST_P(ForwardCaseTest, LogitsOfPrefillAndDecodeMatchTheReference) {
  const Case& c = GetParam();
  const RandomModel model(c.spec);
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> tokens = RandomTokens(c.tokens, c.spec.vocab, 6);
  const std::vector<std::vector<double>> want = reference.Logits(tokens);

  ForwardWorld world(model.config(), model.checkpoint(), {.block_tokens = c.block_tokens});
  ExpectLogitsNear(world, tokens, want, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Models, ForwardCaseTest, ::testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.name; });

class ForwardTest : public EmulatedTest {
 protected:
  static RandomModelSpec Spec() {
    RandomModelSpec spec;
    spec.head_dim = 64;
    spec.dtype = DType::kBF16;
    return spec;
  }
};

// Three sequences in random chunks, in batches of some of them: decode and prefill side by side.
TEST_F(ForwardTest, BatchesOfChunksAndDecodesMatchTheReference) {
  const RandomModel model(Spec());
  const ReferenceModel reference(model.config(), model.checkpoint());
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    ForwardWorld world(model.config(), model.checkpoint(), {.seed = seed});
    struct Sequence {
      std::vector<TokenId> tokens;
      std::vector<std::vector<double>> want;
      std::vector<BlockId> blocks;
      size_t done = 0;
    };
    std::vector<Sequence> sequences(3);
    for (size_t s = 0; s < sequences.size(); ++s) {
      const int length = 20 + static_cast<int>(random() % 50);
      sequences[s].tokens = RandomTokens(length, Spec().vocab, seed * 10 + s);
      sequences[s].want = reference.Logits(sequences[s].tokens);
      sequences[s].blocks = world.TakeBlocks(length);
    }
    while (true) {
      std::vector<ForwardSequence> batch;
      std::vector<size_t> who;
      for (size_t s = 0; s < sequences.size(); ++s) {
        Sequence& sequence = sequences[s];
        const size_t left = sequence.tokens.size() - sequence.done;
        if (left == 0 || random() % 4 == 0) continue;
        const size_t count = std::min<size_t>(left, random() % 2 == 0 ? 1 : 1 + random() % 30);
        batch.push_back({std::span(sequence.tokens).subspan(sequence.done, count),
                         static_cast<int64_t>(sequence.done), sequence.blocks});
        sequence.done += count;
        who.push_back(s);
      }
      if (!batch.empty()) {
        const auto logits = world.Run(batch);
        for (size_t i = 0; i < who.size(); ++i) {
          const Sequence& sequence = sequences[who[i]];
          ASSERT_LT(RelativeError(logits[i], sequence.want[sequence.done - 1]), kTolerance);
        }
      }
      const auto over = [](const Sequence& s) { return s.done == s.tokens.size(); };
      if (std::all_of(sequences.begin(), sequences.end(), over)) break;
    }
  }
}

// Logits of a position are the same bits however the sequence was cut into steps, whatever ran
// beside it, and wherever its blocks lie.
TEST_F(ForwardTest, NeitherChunksNorBatchesNorPoolsShowInTheLogits) {
  constexpr int kTokens = 580;  // more than a segment of attention
  RandomModelSpec spec = Spec();
  spec.layers = 2;
  const RandomModel model(spec);
  const std::vector<TokenId> tokens = RandomTokens(kTokens, spec.vocab, 12);
  std::vector<float> want;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    ForwardWorld world(model.config(), model.checkpoint(),
                       {.device_blocks = 90,
                        .host_blocks = 40,
                        .max_positions = 640,
                        .max_rows = 640,
                        .multiprocessors = seed % 2 == 0 ? 1 : 100,
                        .seed = seed});
    std::vector<BlockId> blocks = world.TakeBlocks(kTokens);
    std::vector<BlockId> host(blocks.size());
    const std::vector<BlockId> others = world.TakeBlocks(64);
    int32_t moved = 0;
    int first = 0;
    std::vector<std::vector<float>> logits;
    while (first < kTokens) {
      const int left = kTokens - first;
      // The first world does all but the last token at once.
      const int most = seed == 0 ? kTokens : random() % 2 == 0 ? 3 : 250;
      const int count =
          std::min(std::max(left - 1, 1), seed == 0 ? most : 1 + static_cast<int>(random() % most));
      const std::vector<TokenId> other =
          RandomTokens(1 + static_cast<int>(random() % 40), spec.vocab, random());
      std::vector<ForwardSequence> batch;
      if (seed > 0 && random() % 2 == 0) batch.push_back({other, 0, others});
      batch.push_back(
          {std::span(tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count)), first,
           blocks, true, host});
      logits = world.Run(batch);
      first += count;
      for (size_t b = 0; seed > 0 && (static_cast<int>(b) + 1) * 16 <= first; ++b) {
        if (host[b].valid() || moved == 40 || random() % 8 != 0) continue;
        host[b] = BlockId(moved++);
        world.MoveToHost(blocks[b], host[b]);
        blocks[b] = BlockId();
      }
    }
    if (seed == 0) want = logits.back();
    EXPECT_EQ(logits.back(), want);
    EXPECT_EQ(moved > 0, seed > 0);
  }
}

TEST_F(ForwardTest, MoreSequencesThanOneGroupOfLogitsAllGetTheirs) {
  RandomModelSpec spec = Spec();
  spec.layers = 1;
  const RandomModel model(spec);
  ForwardWorld world(model.config(), model.checkpoint(), {.device_blocks = 140});
  std::vector<std::vector<TokenId>> tokens;
  std::vector<std::vector<BlockId>> blocks;
  for (uint64_t i = 0; i < 67; ++i) {
    tokens.push_back(RandomTokens(1, spec.vocab, i));
    blocks.push_back(world.TakeBlocks(1));
  }
  std::vector<ForwardSequence> batch;
  for (size_t i = 0; i < tokens.size(); ++i) batch.push_back({tokens[i], 0, blocks[i]});
  const auto together = world.Run(batch);
  for (const size_t i : {size_t{0}, size_t{31}, size_t{63}, size_t{64}, size_t{66}}) {
    EXPECT_EQ(together[i], world.Run({batch[i]})[0]) << "sequence " << i;
  }
}

// A long context, whose segments are spread over blocks of the grid.
TEST_F(ForwardTest, SplitContextsMatchTheReference) {
  RandomModelSpec spec = Spec();
  spec.layers = 1;
  const RandomModel model(spec);
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> tokens = RandomTokens(1030, spec.vocab, 3);
  const std::vector<double> want = reference.Logits(tokens).back();
  ForwardWorld world(
      model.config(), model.checkpoint(),
      {.device_blocks = 70, .max_positions = 1040, .max_rows = 1040, .multiprocessors = 4});
  const std::vector<BlockId> blocks = world.TakeBlocks(1030);
  world.Run({{std::span(tokens).first(1029), 0, blocks}});
  const auto logits = world.Run({{std::span(tokens).last(1), 1029, blocks}});
  EXPECT_GE(world.most_partial_rows(), 3);
  EXPECT_LT(RelativeError(logits[0], want), kTolerance);
}

TEST_F(ForwardTest, BlocksInHostMemoryAreAttendedInPlace) {
  const RandomModel model(Spec());
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> tokens = RandomTokens(90, Spec().vocab, 4);
  const std::vector<std::vector<double>> want = reference.Logits(tokens);
  ForwardWorld world(model.config(), model.checkpoint(), {.host_blocks = 8});
  std::vector<BlockId> blocks = world.TakeBlocks(90);
  world.Run({{std::span(tokens).first(80), 0, blocks}});
  // Blocks 0, 1 and 3 of the five go; their places on the device hold NaN.
  std::vector<BlockId> host(5);
  for (const size_t b : {size_t{0}, size_t{1}, size_t{3}}) {
    host[b] = BlockId(static_cast<int32_t>(7 - b));
    world.MoveToHost(blocks[b], host[b]);
    blocks[b] = BlockId();
  }
  const auto decode = world.Run({{std::span(tokens).subspan(80, 1), 80, blocks, true, host}});
  EXPECT_LT(RelativeError(decode[0], want[80]), kTolerance);
  const auto chunk = world.Run({{std::span(tokens).subspan(81, 9), 81, blocks, true, host}});
  EXPECT_LT(RelativeError(chunk[0], want[89]), kTolerance);
}

// What is rounded while loading is what a rounded checkpoint holds; how it is cut does not matter.
TEST_F(ForwardTest, WeightsOfOtherTypesAreRoundedToBf16WhileLoading) {
  RandomModelSpec spec = Spec();
  const RandomModel rounded(spec);
  spec.dtype = DType::kF32;
  const RandomModel exact(spec);
  const std::vector<TokenId> tokens = RandomTokens(9, spec.vocab, 8);
  std::vector<std::vector<float>> logits;
  for (const Bytes piece : {Bytes(1 << 20), Bytes(272)}) {
    for (const RandomModel* model : {&rounded, &exact}) {
      ForwardWorld world(model->config(), model->checkpoint(), {.weight_piece = piece});
      logits.push_back(world.Run({{tokens, 0, world.TakeBlocks(9)}})[0]);
    }
  }
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_EQ(logits[0], logits[2]);
  EXPECT_EQ(logits[0], logits[3]);
}

TEST_F(ForwardTest, ModelsWithoutKernelsAreRefusedByName) {
  ModelConfig config = RandomModel(Spec()).config();
  EXPECT_TRUE(CheckSupported(config).ok());
  config.head_dim = 48;
  EXPECT_THAT(CheckSupported(config),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("head_dim = 48; they take 32, 64, 80, 96, 128 and 256")));
  config.head_dim = 64;
  config.heads = 34;
  EXPECT_THAT(CheckSupported(config),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("key_value_heads = 17")));
  config.heads = 4;
  config.intermediate = 7;
  EXPECT_THAT(CheckSupported(config),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("intermediate_size = 7")));
}

}  // namespace
}  // namespace sluice::cuda
