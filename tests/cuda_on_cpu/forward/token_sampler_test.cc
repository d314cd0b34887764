// Draws on the emulated device against those of the CPU backend.
#include "backend/cuda/forward/token_sampler.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cpu/sampler.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/support/status_matchers.h"

namespace sluice::cuda {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

constexpr int32_t kVocab = 157;
constexpr int32_t kGroup = 8;

struct Draw {
  std::vector<float> logits;
  std::vector<TokenId> tokens;
  SamplingParams params;
  int64_t prompt = 0;
  int64_t output_index = 0;
};

Draw RandomDraw(std::mt19937_64& random) {
  std::normal_distribution<float> normal(0, 3);
  const auto chance = [&](int one_in) { return random() % static_cast<uint64_t>(one_in) == 0; };
  Draw draw;
  draw.logits.resize(kVocab);
  for (float& logit : draw.logits) logit = normal(random);
  draw.tokens.resize(5 + random() % 30);
  for (TokenId& token : draw.tokens) token = static_cast<TokenId>(random() % kVocab);
  draw.prompt = static_cast<int64_t>(random() % draw.tokens.size());
  draw.output_index = static_cast<int64_t>(draw.tokens.size()) - draw.prompt;
  SamplingParams& p = draw.params;
  p.seed = random();
  p.temperature = chance(3) ? 0.0F : 0.7F;
  if (chance(3)) p.top_k = 1 + static_cast<int32_t>(random() % 40);
  if (chance(3)) p.top_p = 0.8F;
  if (chance(4)) p.min_p = 0.05F;
  if (chance(3)) p.repetition_penalty = 1.3F;
  if (chance(3)) p.presence_penalty = 0.7F;
  if (chance(3)) p.frequency_penalty = 0.2F;
  if (chance(2)) p.logprobs = static_cast<int32_t>(random() % 5);
  if (chance(3)) {
    p.min_tokens = 100;
    // The likeliest among them, where the mask shows.
    const auto best = std::max_element(draw.logits.begin(), draw.logits.end());
    p.stop_ids = {static_cast<TokenId>(best - draw.logits.begin()), 3, kVocab + 7};
  }
  return draw;
}

class TokenSamplerTest : public EmulatedTest {
 protected:
  // What the device draws.
  static std::vector<absl::StatusOr<SampledToken>> Run(const std::vector<Draw>& draws) {
    MemoryAccount account;
    ControlBuffer control(account);
    ResultBuffer results(account);
    TokenSampler sampler(kGroup, kVocab);
    const TestStream stream;
    std::vector<SampleInput> inputs;
    for (const Draw& d : draws) inputs.push_back({&d.params, d.tokens, d.prompt, d.output_index});
    sampler.Prepare(inputs, control, results);
    EXPECT_TRUE(results.Reserve().ok());
    EXPECT_TRUE(control.Upload(stream).ok());
    std::vector<std::unique_ptr<DeviceArray<float>>> logits;
    for (int32_t group = 0; group < sampler.groups(); ++group) {
      std::vector<float> rows;
      for (int32_t i = 0; i < sampler.count(group); ++i) {
        const Draw& draw = draws[static_cast<size_t>(sampler.first(group) + i)];
        rows.insert(rows.end(), draw.logits.begin(), draw.logits.end());
      }
      logits.push_back(std::make_unique<DeviceArray<float>>(rows));
      EXPECT_TRUE(sampler.Draw(group, logits.back()->data(), control, results, stream).ok());
    }
    EXPECT_TRUE(results.Download(stream).ok());
    EXPECT_CUDA_OK(stream.Synchronize());
    std::vector<absl::StatusOr<SampledToken>> sampled;
    for (size_t i = 0; i < draws.size(); ++i) sampled.push_back(sampler.Take(i, results));
    return sampled;
  }

  static absl::StatusOr<SampledToken> OnTheCpu(const Draw& draw) {
    Sampler sampler;
    std::vector<float> logits = draw.logits;
    sluice::SampleInput input;
    input.params = &draw.params;
    input.tokens = draw.tokens;
    input.prompt = draw.prompt;
    input.output_index = draw.output_index;
    return sampler.Sample(logits, input);
  }
};

TEST_F(TokenSamplerTest, DrawsAndLogprobsAreThoseOfTheCpuBackend) {
  std::mt19937_64 random(11);
  std::vector<Draw> draws;
  for (int i = 0; i < 60; ++i) draws.push_back(RandomDraw(random));
  const std::vector<absl::StatusOr<SampledToken>> got = Run(draws);
  for (size_t i = 0; i < draws.size(); ++i) {
    SCOPED_TRACE(absl::StrCat("draw ", i));
    const absl::StatusOr<SampledToken> want = OnTheCpu(draws[i]);
    ASSERT_EQ(got[i].ok(), want.ok());
    ASSERT_EQ(got[i]->token, want->token);
    ASSERT_NEAR(got[i]->logprob, want->logprob, 1e-4);
    ASSERT_EQ(got[i]->top.size(), want->top.size());
    for (size_t t = 0; t < want->top.size(); ++t) {
      EXPECT_EQ(got[i]->top[t].token, want->top[t].token);
      EXPECT_NEAR(got[i]->top[t].logprob, want->top[t].logprob, 1e-4);
    }
  }
}

TEST_F(TokenSamplerTest, BrokenLogitsFailTheirOwnDrawOnly) {
  std::mt19937_64 random(12);
  std::vector<Draw> draws(3, RandomDraw(random));
  for (Draw& draw : draws) draw.params = SamplingParams();
  draws[1].logits[70] = std::numeric_limits<float>::quiet_NaN();
  draws[2].params.min_tokens = 1000;
  for (TokenId token = 0; token < kVocab; ++token) draws[2].params.stop_ids.push_back(token);
  const std::vector<absl::StatusOr<SampledToken>> got = Run(draws);
  EXPECT_TRUE(got[0].ok());
  EXPECT_THAT(got[1], StatusIs(absl::StatusCode::kInternal,
                               HasSubstr("logits are not finite; is the checkpoint damaged")));
  EXPECT_THAT(got[2], StatusIs(absl::StatusCode::kInternal, HasSubstr("leave no token to draw")));
}

}  // namespace
}  // namespace sluice::cuda
