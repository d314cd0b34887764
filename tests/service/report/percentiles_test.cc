#include "service/report/percentiles.h"

#include <algorithm>
#include <random>

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(SamplesTest, NothingIsZero) {
  Samples samples;
  EXPECT_EQ(samples.count(), 0U);
  EXPECT_EQ(samples.mean(), 0);
  EXPECT_EQ(samples.max(), 0);
  EXPECT_EQ(samples.Percentile(99), 0);
}

TEST(SamplesTest, InterpolatesBetweenNeighbours) {
  Samples samples;
  samples.Add({40, 10, 30, 20});  // any order
  EXPECT_DOUBLE_EQ(samples.Percentile(0), 10);
  EXPECT_DOUBLE_EQ(samples.Percentile(50), 25);
  EXPECT_DOUBLE_EQ(samples.Percentile(90), 37);
  EXPECT_DOUBLE_EQ(samples.Percentile(100), 40);
  EXPECT_DOUBLE_EQ(samples.mean(), 25);
  EXPECT_DOUBLE_EQ(samples.max(), 40);
}

TEST(SamplesTest, OneSampleIsEveryPercentile) {
  Samples samples;
  samples.Add(7);
  for (const double p : {0.0, 1.0, 50.0, 99.9, 100.0}) EXPECT_DOUBLE_EQ(samples.Percentile(p), 7);
}

TEST(SamplesTest, SeesSamplesAddedAfterAQuestion) {
  Samples samples;
  samples.Add(2);
  EXPECT_DOUBLE_EQ(samples.Percentile(0), 2);
  samples.Add(1);
  EXPECT_DOUBLE_EQ(samples.Percentile(0), 1);
}

// Definition: at most p % of the samples lie strictly below the value, at most (100 - p) % above.
TEST(SamplesTest, SplitsRandomSamplesAtTheRightPlace) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::vector<double> values(1 + rng() % 200);
    for (double& v : values) v = static_cast<double>(rng() % 100);
    Samples samples;
    samples.Add(values);
    for (const double p : {1.0, 25.0, 50.0, 90.0, 99.0}) {
      const double at = samples.Percentile(p);
      const double n = static_cast<double>(values.size() - 1);
      const auto below =
          std::count_if(values.begin(), values.end(), [at](double v) { return v < at; });
      const auto above =
          std::count_if(values.begin(), values.end(), [at](double v) { return v > at; });
      EXPECT_LE(static_cast<double>(below), n * p / 100 + 1);
      EXPECT_LE(static_cast<double>(above), n * (100 - p) / 100 + 1);
    }
  }
}

}  // namespace
}  // namespace sluice
