#include "backend/cpu/sampler.h"

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

SamplingParams Greedy() {
  SamplingParams params;
  params.temperature = 0;
  return params;
}

struct Draw {
  SamplingParams params;
  std::vector<TokenId> tokens;
  int64_t prompt = 0;
  int64_t output_index = 0;

  absl::StatusOr<SampledToken> Run(std::vector<float> logits) const {
    Sampler sampler;
    return sampler.Sample(logits, {&params, tokens, prompt, output_index});
  }
};

TokenId TokenOf(const absl::StatusOr<SampledToken>& sampled) {
  EXPECT_THAT(sampled, IsOk());
  return sampled.ok() ? sampled->token : -1;
}

// How often each token comes in `draws` draws of one seed.
std::vector<double> Frequencies(const std::vector<float>& logits, const SamplingParams& params,
                                int draws) {
  Sampler sampler;
  std::vector<double> frequencies(logits.size());
  for (int i = 0; i < draws; ++i) {
    std::vector<float> copy = logits;
    const auto sampled = sampler.Sample(copy, {&params, {}, 0, i});
    EXPECT_THAT(sampled, IsOk());
    frequencies[static_cast<size_t>(sampled->token)] += 1.0 / draws;
  }
  return frequencies;
}

// Each frequency within five standard deviations of its probability; impossible tokens never come.
void ExpectDistribution(const std::vector<float>& logits, const SamplingParams& params,
                        const std::vector<double>& probabilities) {
  constexpr int kDraws = 40000;
  const std::vector<double> got = Frequencies(logits, params, kDraws);
  for (size_t i = 0; i < got.size(); ++i) {
    const double p = probabilities[i];
    EXPECT_NEAR(got[i], p, 1e-9 + 5 * std::sqrt(p * (1 - p) / kDraws)) << "token " << i;
  }
}

std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + 2.5));
  return logits;
}

TEST(UniformDrawTest, IsUniformAndDependsOnSeedAndIndex) {
  std::map<double, int> seen;
  std::vector<int> buckets(20);
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (int64_t index = 0; index < 200; ++index) {
      const double u = UniformDraw(seed, index);
      ASSERT_GE(u, 0.0);
      ASSERT_LT(u, 1.0);
      ASSERT_EQ(u, UniformDraw(seed, index));
      ++seen[u];
      ++buckets[static_cast<size_t>(u * 20)];
    }
  }
  EXPECT_EQ(seen.size(), 20000U);
  double chi_square = 0;
  for (const int count : buckets) chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi_square, 43.8);  // 19 degrees of freedom, p = 0.001
}

TEST(SamplerTest, GreedyTakesTheLargestAndOfEqualsTheLowestId) {
  const Draw draw{Greedy(), {}, 0, 0};
  EXPECT_EQ(TokenOf(draw.Run({0.0F, 3.0F, -1.0F, 3.0F})), 1);
  EXPECT_EQ(TokenOf(draw.Run({-7.0F})), 0);
}

TEST(SamplerTest, DrawsFollowTheSoftmax) {
  SamplingParams params;
  params.seed = 3;
  const std::vector<double> p = {0.5, 0.05, 0.25, 0.2};
  ExpectDistribution(LogitsOf(p), params, p);
}

TEST(SamplerTest, TemperatureSharpensAndFlattens) {
  SamplingParams params;
  params.temperature = 0.5F;  // probabilities squared
  ExpectDistribution(LogitsOf({0.6, 0.3, 0.1}), params, {0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46});
  params.temperature = 1e-30F;  // greedy in the limit, not NaN
  EXPECT_EQ(TokenOf(Draw{params, {}, 0, 0}.Run({1.0F, 2.0F, 0.0F})), 1);
}

TEST(SamplerTest, TopKKeepsTheLikeliest) {
  SamplingParams params;
  params.top_k = 2;
  ExpectDistribution(LogitsOf({0.1, 0.5, 0.15, 0.25}), params, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
  params.top_k = 1;
  EXPECT_EQ(TokenOf(Draw{params, {}, 0, 0}.Run({1.0F, 1.0F})), 0);  // lowest id of equals
}

TEST(SamplerTest, TopPKeepsTheSmallestSetThatReachesIt) {
  SamplingParams params;
  params.top_p = 0.7F;
  ExpectDistribution(LogitsOf({0.1, 0.5, 0.15, 0.25}), params, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
  params.top_p = 1e-6F;  // at least one stays
  ExpectDistribution(LogitsOf({0.1, 0.9}), params, {0, 1});
}

TEST(SamplerTest, MinPIsRelativeToTheLikeliest) {
  SamplingParams params;
  params.min_p = 0.4F;
  ExpectDistribution(LogitsOf({0.1, 0.5, 0.15, 0.25}), params, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
  params.min_p = 1.0F;
  ExpectDistribution(LogitsOf({0.1, 0.5, 0.4}), params, {0, 1, 0});
}

TEST(SamplerTest, TopKComesBeforeTopP) {
  SamplingParams params;
  params.top_k = 3;
  params.top_p = 0.6F;  // of the three's 0.8: 0.4 of 0.8 is not enough, 0.65 is
  ExpectDistribution(LogitsOf({0.4, 0.25, 0.15, 0.1, 0.1}), params,
                     {0.4 / 0.65, 0.25 / 0.65, 0, 0, 0});
}

TEST(SamplerTest, TopPOverALargeFlatVocabularyReachesFarDown) {
  SamplingParams params;
  params.top_p = 0.5F;
  const std::vector<float> logits(5000, 1.25F);
  const std::vector<double> got = Frequencies(logits, params, 2000);
  for (size_t i = 2500; i < got.size(); ++i) ASSERT_EQ(got[i], 0.0) << i;
  double upper = 0;
  for (size_t i = 1250; i < 2500; ++i) upper += got[i];
  EXPECT_NEAR(upper, 0.5, 0.06);
}

TEST(SamplerTest, PenaltiesChangeLogitsAsDefined) {
  Draw draw{Greedy(), {0, 1, 2, 2}, 2, 2};  // prompt 0 1, output 2 2
  draw.params.repetition_penalty = 2.0F;
  EXPECT_EQ(TokenOf(draw.Run({4.0F, 0.0F, 3.9F, 1.9F})), 0);      // 2, 0, 1.95, 1.9
  EXPECT_EQ(TokenOf(draw.Run({-1.0F, -1.1F, -1.2F, -1.9F})), 3);  // doubled where negative
  draw.params = Greedy();
  draw.params.presence_penalty = 1.0F;  // the prompt is not output
  EXPECT_EQ(TokenOf(draw.Run({0.5F, 0.0F, 1.4F, 0.0F})), 0);
  EXPECT_EQ(TokenOf(draw.Run({0.5F, 0.0F, 1.6F, 0.0F})), 2);
  draw.params = Greedy();
  draw.params.frequency_penalty = 1.0F;  // twice
  EXPECT_EQ(TokenOf(draw.Run({0.5F, 0.0F, 2.4F, 0.0F})), 0);
  EXPECT_EQ(TokenOf(draw.Run({0.5F, 0.0F, 2.6F, 0.0F})), 2);
  draw.params.frequency_penalty = -1.0F;  // a reward
  EXPECT_EQ(TokenOf(draw.Run({0.5F, 0.0F, -1.4F, 0.0F})), 2);
}

TEST(SamplerTest, StopTokensCannotBeDrawnBeforeMinTokens) {
  Draw draw{Greedy(), {}, 0, 0};
  draw.params.min_tokens = 3;
  draw.params.stop_ids = {1, 99};
  for (int64_t i = 0; i < 3; ++i) {
    draw.output_index = i;
    EXPECT_EQ(TokenOf(draw.Run({1.0F, 5.0F, 2.0F})), 2);
  }
  draw.output_index = 3;
  EXPECT_EQ(TokenOf(draw.Run({1.0F, 5.0F, 2.0F})), 1);
  draw.output_index = 0;
  draw.params.stop_ids = {0, 1, 2};
  EXPECT_THAT(draw.Run({1.0F, 5.0F, 2.0F}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("min_tokens")));
}

TEST(SamplerTest, LogprobsAreOfTheLogitsBeforeTemperaturePenaltiesAndMasks) {
  Draw draw{Greedy(), {1}, 0, 0};
  draw.params.logprobs = 2;
  draw.params.presence_penalty = 2.0F;
  draw.params.temperature = 0;
  const auto sampled = draw.Run(LogitsOf({0.3, 0.5, 0.2}));
  EXPECT_EQ(TokenOf(sampled), 0);
  EXPECT_NEAR(sampled->logprob, std::log(0.3), 1e-5);
  ASSERT_EQ(sampled->top.size(), 2U);
  EXPECT_EQ(sampled->top[0].token, 1);
  EXPECT_NEAR(sampled->top[0].logprob, std::log(0.5), 1e-5);
  EXPECT_EQ(sampled->top[1].token, 0);
  draw.params.logprobs = 0;
  EXPECT_TRUE(draw.Run(LogitsOf({0.3, 0.5, 0.2}))->top.empty());
  draw.params.logprobs = 20;  // more than there are
  EXPECT_EQ(draw.Run(LogitsOf({0.3, 0.5, 0.2}))->top.size(), 3U);
}

TEST(SamplerTest, LogitsThatAreNotFiniteAreAnError) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT((Draw{Greedy(), {}, 0, 0}.Run({1.0F, bad, 0.0F})),
                StatusIs(absl::StatusCode::kInternal, HasSubstr("not finite")));
  }
}

TEST(SamplerTest, TheSameSeedAndIndexGiveTheSameTokenWhateverCameBefore) {
  SamplingParams params;
  params.seed = 42;
  std::vector<float> logits(300);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i));
  Sampler used;
  for (int64_t i = 0; i < 50; ++i) {
    std::vector<float> a = logits;
    std::vector<float> b = logits;
    EXPECT_EQ(used.Sample(a, {&params, {}, 0, i})->token,
              Sampler().Sample(b, {&params, {}, 0, i})->token);
  }
}

}  // namespace
}  // namespace sluice
