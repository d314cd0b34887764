#include "backend/model/rope.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace sluice {
namespace {

constexpr double kTau = 6.283185307179586;

// theta^(-2i/d) by logarithms.
double Plain(double theta, int i, int head_dim) {
  return std::exp(-std::log(theta) * (2.0 * i / head_dim));
}

TEST(RopeTest, DefaultFrequenciesAreAGeometricSeries) {
  RopeConfig rope;
  const std::vector<double> f = RopeInverseFrequencies(rope, 8, 2048);
  ASSERT_EQ(f.size(), 4u);
  EXPECT_NEAR(f[0], 1.0, 1e-15);
  EXPECT_NEAR(f[1], 0.1, 1e-15);
  EXPECT_NEAR(f[2], 0.01, 1e-16);
  EXPECT_NEAR(f[3], 0.001, 1e-17);
}

TEST(RopeTest, LinearDividesEveryFrequency) {
  RopeConfig rope;
  rope.kind = RopeKind::kLinear;
  rope.factor = 4;
  const std::vector<double> f = RopeInverseFrequencies(rope, 4, 2048);
  EXPECT_NEAR(f[0], 0.25, 1e-15);
  EXPECT_NEAR(f[1], 0.0025, 1e-17);
}

// Llama 3's rule, by number of turns over the original context: many turns stay, few are divided by
// the factor, in between is blended.
TEST(RopeTest, Llama3BlendsByTurnsOverTheOriginalContext) {
  RopeConfig rope;
  rope.kind = RopeKind::kLlama3;
  rope.theta = 500000;
  rope.factor = 32;
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 4;
  rope.original_max_position_embeddings = 8192;
  const std::vector<double> f = RopeInverseFrequencies(rope, 64, 131072);
  int kept = 0, blended = 0, divided = 0;
  for (int i = 0; i < 32; ++i) {
    const double plain = Plain(500000, i, 64);
    const double turns = 8192 * plain / kTau;
    double want = 0;
    if (turns > 4) {
      want = plain;
      ++kept;
    } else if (turns < 1) {
      want = plain / 32;
      ++divided;
    } else {
      const double keep = (turns - 1) / 3;
      want = plain * (keep + (1 - keep) / 32);
      ++blended;
    }
    EXPECT_NEAR(f[static_cast<size_t>(i)] / want, 1, 1e-12) << i;
  }
  EXPECT_EQ(kept, 15);
  EXPECT_EQ(blended, 3);
  EXPECT_EQ(divided, 14);
}

// Numbers worked out by hand for head_dim 64, theta 10^4, original length 2048, factor 8:
// pair(r) = 64 ln(2048 / (2 pi r)) / (2 ln 10^4); pair(32) = 8.07 -> 8, pair(1) = 20.10 -> 21.
TEST(RopeTest, YarnRampsFromKeptToInterpolated) {
  RopeConfig rope;
  rope.kind = RopeKind::kYarn;
  rope.factor = 8;
  rope.original_max_position_embeddings = 2048;
  const std::vector<double> f = RopeInverseFrequencies(rope, 64, 16384);
  for (int i = 0; i < 32; ++i) {
    const double plain = Plain(10000, i, 64);
    const double interpolated = i <= 8 ? 0.0 : i >= 21 ? 1.0 : (i - 8) / 13.0;
    const double want = plain * (1 - interpolated * (1 - 1 / 8.0));
    EXPECT_NEAR(f[static_cast<size_t>(i)] / want, 1, 1e-12) << i;
  }
}

// The ramp's end is bounded by head_dim - 1, not by the number of pairs: the last pair may stay
// short of full interpolation. pair(32) = 2.21 -> 2 and pair(1) = 3.72 -> 4; then max(-2.02, 0) = 0
// and min(15.97, 7) = 7.
TEST(RopeTest, YarnRampMayEndBeyondTheLastPair) {
  RopeConfig rope;
  rope.kind = RopeKind::kYarn;
  rope.factor = 4;
  rope.original_max_position_embeddings = 32768;
  const std::vector<double> f = RopeInverseFrequencies(rope, 8, 131072);
  EXPECT_NEAR(f[2] / Plain(10000, 2, 8), 1, 1e-12);
  EXPECT_NEAR(f[3] / Plain(10000, 3, 8), 0.5 + 0.5 / 4, 1e-12);

  rope.theta = 2;
  rope.original_max_position_embeddings = 100;
  const std::vector<double> g = RopeInverseFrequencies(rope, 8, 400);
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(g[static_cast<size_t>(i)] / Plain(2, i, 8), 1 - i / 7.0 * 0.75, 1e-12) << i;
  }
}

TEST(RopeTest, YarnWithEqualBoundsDoesNotDivideByZero) {
  RopeConfig rope;
  rope.kind = RopeKind::kYarn;
  rope.factor = 4;
  rope.original_max_position_embeddings = 4;  // shorter than one turn: both bounds are 0
  const std::vector<double> f = RopeInverseFrequencies(rope, 8, 16);
  EXPECT_NEAR(f[0], 1.0, 1e-15);
  for (int i = 1; i < 4; ++i) {
    EXPECT_NEAR(f[static_cast<size_t>(i)] / (Plain(10000, i, 8) / 4), 1, 1e-12) << i;
  }
}

TEST(RopeTest, CosAndSinAreScaledByTheAttentionFactor) {
  const std::vector<double> frequencies = {1.0, 0.5};
  std::vector<double> cos(2), sin(2);
  RopeCosSin(frequencies, 2.0, 3, cos, sin);
  EXPECT_NEAR(cos[0], 2 * std::cos(3.0), 1e-15);
  EXPECT_NEAR(sin[0], 2 * std::sin(3.0), 1e-15);
  EXPECT_NEAR(cos[1], 2 * std::cos(1.5), 1e-15);
  EXPECT_NEAR(sin[1], 2 * std::sin(1.5), 1e-15);
  RopeCosSin(frequencies, 1.0, 0, cos, sin);
  EXPECT_EQ(cos, (std::vector<double>{1, 1}));
  EXPECT_EQ(sin, (std::vector<double>{0, 0}));
}

}  // namespace
}  // namespace sluice
