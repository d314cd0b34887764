#include "backend/cpu/ops.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/backend/cpu/highway_targets.h"

namespace sluice {
namespace {

using testing::ForEachHighwayTarget;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> Random(int64_t n, uint64_t seed, float scale = 1.0F) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = normal(random) * scale;
  return v;
}

const std::vector<int64_t>& Sizes() {
  static const auto& sizes =
      *new std::vector<int64_t>{1, 2, 3, 8, 15, 16, 17, 31, 64, 65, 100, 1000};
  return sizes;
}

TEST(BF16Test, RoundsToNearestEvenAndKeepsSpecialValues) {
  EXPECT_EQ(FloatToBF16(1.0F), 0x3f80);
  EXPECT_EQ(FloatToBF16(std::bit_cast<float>(0x3f808000U)), 0x3f80);  // tie, even below
  EXPECT_EQ(FloatToBF16(std::bit_cast<float>(0x3f818000U)), 0x3f82);  // tie, even above
  EXPECT_EQ(FloatToBF16(std::bit_cast<float>(0x3f808001U)), 0x3f81);
  EXPECT_EQ(FloatToBF16(-0.0F), 0x8000);
  EXPECT_EQ(FloatToBF16(kInfinity), 0x7f80);
  EXPECT_TRUE(std::isnan(BF16ToFloat(FloatToBF16(std::bit_cast<float>(0x7fffffffU)))));
  EXPECT_TRUE(std::isnan(BF16ToFloat(FloatToBF16(std::bit_cast<float>(0x7f800001U)))));
}

TEST(OpsTest, VectorRoundingEqualsScalarRounding) {
  ForEachHighwayTarget([] {
    std::vector<float> x = Random(997, 1, 1e3F);
    x[3] = std::numeric_limits<float>::quiet_NaN();
    x[5] = std::bit_cast<float>(0x7fffffffU);
    x[7] = kInfinity;
    x[9] = -0.0F;
    x[11] = std::bit_cast<float>(0x3f818000U);
    x[13] = std::numeric_limits<float>::max();
    std::vector<uint16_t> out(x.size() + 2);
    ToElements(x.data(), static_cast<int64_t>(x.size()), Element::kBF16, out.data(), 2);
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) {
        ASSERT_TRUE(std::isnan(BF16ToFloat(out[i + 2])));
      } else {
        ASSERT_EQ(out[i + 2], FloatToBF16(x[i])) << x[i];
      }
    }
  });
}

TEST(OpsTest, RmsNormMatchesItsFormula) {
  ForEachHighwayTarget([] {
    for (const int64_t n : Sizes()) {
      const std::vector<float> x = Random(n, 2);
      const std::vector<float> w = Random(n, 3);
      double mean = 0;
      for (const float v : x) mean += static_cast<double>(v) * v / static_cast<double>(n);
      std::vector<float> out(x.size());
      RmsNorm(x.data(), w.data(), n, 1e-5F, Element::kF32, out.data(), 0);
      std::vector<float> in_place = x;
      RmsNormInPlace(in_place.data(), w.data(), n, 1e-5F);
      for (size_t i = 0; i < x.size(); ++i) {
        const double want = static_cast<double>(x[i]) / std::sqrt(mean + 1e-5) * w[i];
        ASSERT_NEAR(out[i], want, 1e-6 + 2e-6 * std::abs(want));
        ASSERT_NEAR(in_place[i], want, 1e-6 + 2e-6 * std::abs(want));
      }
    }
  });
}

TEST(OpsTest, RopeRotatesPairsHalfAHeadApart) {
  ForEachHighwayTarget([] {
    for (const int64_t half : Sizes()) {
      const std::vector<float> x = Random(2 * half, 4);
      std::vector<float> cosine;
      std::vector<float> sine;
      for (int64_t i = 0; i < half; ++i) {
        cosine.push_back(std::cos(0.3F * static_cast<float>(i)));
        sine.push_back(std::sin(0.3F * static_cast<float>(i)));
      }
      std::vector<float> y = x;
      Rope(y.data(), cosine.data(), sine.data(), half);
      for (size_t i = 0; i < static_cast<size_t>(half); ++i) {
        const float a = x[i];
        const float b = x[i + static_cast<size_t>(half)];
        ASSERT_NEAR(y[i], a * cosine[i] - b * sine[i], 1e-5);
        ASSERT_NEAR(y[i + static_cast<size_t>(half)], b * cosine[i] + a * sine[i], 1e-5);
      }
    }
  });
}

TEST(OpsTest, SwiGluMatchesItsFormulaFarFromZeroToo) {
  ForEachHighwayTarget([] {
    for (const int64_t n : Sizes()) {
      std::vector<float> gate = Random(n, 5, 8.0F);
      const std::vector<float> up = Random(n, 6);
      gate[0] = -150.0F;
      gate[static_cast<size_t>(n - 1)] = 150.0F;
      std::vector<float> out(gate.size());
      SwiGlu(gate.data(), up.data(), n, Element::kF32, out.data(), 0);
      for (size_t i = 0; i < gate.size(); ++i) {
        const double g = static_cast<double>(gate[i]);
        const double want = g / (1 + std::exp(-g)) * up[i];
        ASSERT_NEAR(out[i], want, 1e-9 + 2e-5 * std::abs(want)) << g;
      }
    }
  });
}

TEST(OpsTest, CheckedMaxFindsTheMaximumAndTheUnusable) {
  ForEachHighwayTarget([] {
    for (const int64_t n : Sizes()) {
      std::vector<float> x = Random(n, 7);
      ASSERT_EQ(CheckedMax(x.data(), n), *std::max_element(x.begin(), x.end()));
      for (int64_t at : {int64_t{0}, n / 2, n - 1}) {
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
          std::vector<float> y = x;
          y[static_cast<size_t>(at)] = bad;
          ASSERT_TRUE(std::isnan(CheckedMax(y.data(), n))) << n << " at " << at << ": " << bad;
        }
      }
      std::vector<float> masked(x.size(), -kInfinity);
      ASSERT_TRUE(std::isnan(CheckedMax(masked.data(), n)));
      masked.back() = -3.0F;
      ASSERT_EQ(CheckedMax(masked.data(), n), -3.0F);
    }
  });
}

TEST(OpsTest, ExpSumIsTheSumOfExponentials) {
  ForEachHighwayTarget([] {
    for (const int64_t n : {int64_t{1}, int64_t{17}, int64_t{1024}, int64_t{5003}}) {
      std::vector<float> x = Random(n, 8, 5.0F);
      const float maximum = *std::max_element(x.begin(), x.end());
      x[0] = n > 1 ? -kInfinity : x[0];
      std::vector<float> out(x.size());
      const float top = n > 1 ? maximum : x[0];
      const double sum = ExpSum(x.data(), n, top, 0.7F, out.data());
      double want = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const double e = std::exp((static_cast<double>(x[i]) - static_cast<double>(top)) * 0.7);
        ASSERT_NEAR(out[i], e, 1e-30 + 1e-5 * e);
        want += e;
      }
      ASSERT_NEAR(sum, want, 1e-5 * want);
    }
  });
}

TEST(RopeTableTest, HoldsCosinesAndSinesOfPositionTimesFrequency) {
  ModelConfig config;
  config.head_dim = 8;
  config.max_position_embeddings = 4096;
  config.rope.attention_factor = 1.25;
  const std::vector<double> frequencies =
      RopeInverseFrequencies(config.rope, config.head_dim, config.max_position_embeddings);
  const RopeTable table(config, Tokens(4096));
  ASSERT_EQ(table.half(), 4);
  for (const int64_t position : {0, 1, 77, 4095}) {
    for (size_t i = 0; i < 4; ++i) {
      const double angle = static_cast<double>(position) * frequencies[i];
      EXPECT_FLOAT_EQ(table.cosine(position)[i], static_cast<float>(std::cos(angle) * 1.25));
      EXPECT_FLOAT_EQ(table.sine(position)[i], static_cast<float>(std::sin(angle) * 1.25));
    }
  }
}

}  // namespace
}  // namespace sluice
