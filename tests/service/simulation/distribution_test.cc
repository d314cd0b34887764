#include "service/simulation/distribution.h"

#include <cmath>
#include <random>

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(DistributionTest, PercentilesInterpolate) {
  const Distribution d = DistributionOf({4, 1, 3, 2, 5});
  EXPECT_EQ(d.count, 5);
  EXPECT_DOUBLE_EQ(d.mean, 3);
  EXPECT_DOUBLE_EQ(d.p50, 3);
  EXPECT_DOUBLE_EQ(d.p90, 4.6);
  EXPECT_DOUBLE_EQ(d.max, 5);
}

TEST(DistributionTest, NothingMeasuredIsAllZero) {
  EXPECT_EQ(DistributionOf({}).count, 0);
  EXPECT_EQ(DistributionOf({}).p99, 0);
  EXPECT_EQ(LogHistogram().distribution().max, 0);
}

TEST(LogHistogramTest, PercentilesAreRightToWithinOnePercent) {
  std::mt19937_64 rng(1);
  std::lognormal_distribution<double> draw(-3, 1.5);
  LogHistogram histogram;
  std::vector<double> values;
  for (int i = 0; i < 20000; ++i) {
    values.push_back(draw(rng));
    histogram.Add(values.back());
    if (i % 3 == 0) {  // the same again, as tokens of one step have it
      values.push_back(values.back());
      histogram.Add(values.back());
    }
  }
  const Distribution exact = DistributionOf(values);
  const Distribution near = histogram.distribution();
  EXPECT_EQ(near.count, exact.count);
  EXPECT_NEAR(near.mean, exact.mean, 1e-9);
  EXPECT_DOUBLE_EQ(near.max, exact.max);
  EXPECT_NEAR(near.p50 / exact.p50, 1, 0.012);
  EXPECT_NEAR(near.p90 / exact.p90, 1, 0.012);
  EXPECT_NEAR(near.p99 / exact.p99, 1, 0.012);
}

TEST(LogHistogramTest, ExtremesAreCounted) {
  LogHistogram histogram;
  histogram.Add(0);
  histogram.Add(1e9);
  EXPECT_EQ(histogram.distribution().count, 2);
  EXPECT_DOUBLE_EQ(histogram.distribution().max, 1e9);
  EXPECT_LE(histogram.distribution().p50, 2e-6);
}

}  // namespace
}  // namespace sluice
