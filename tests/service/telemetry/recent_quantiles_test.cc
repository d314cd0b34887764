#include "service/telemetry/recent_quantiles.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace sluice {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

TEST(RecentQuantilesTest, NothingSeenIsZero) {
  const RecentQuantiles::Summary none = RecentQuantiles().Read(kNow);
  EXPECT_EQ(none.count, 0);
  EXPECT_EQ(none.p99, absl::ZeroDuration());
}

TEST(RecentQuantilesTest, QuantilesAreWithinATwentiethOfTheExactOnes) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::lognormal_distribution<double> draw(-3, 1.5);
    RecentQuantiles quantiles;
    std::vector<double> exact;
    for (int i = 0; i < 1 + static_cast<int>(seed) * 37; ++i) {
      exact.push_back(std::clamp(draw(random), 2e-5, 3000.0));
      quantiles.Add(absl::Seconds(exact.back()), kNow + absl::Milliseconds(i));
    }
    std::sort(exact.begin(), exact.end());
    const auto at = [&](double q) {
      return exact[static_cast<size_t>(std::ceil(q * static_cast<double>(exact.size()))) - 1];
    };
    const RecentQuantiles::Summary found = quantiles.Read(kNow + absl::Seconds(1));
    EXPECT_EQ(found.count, static_cast<int64_t>(exact.size()));
    EXPECT_NEAR(absl::ToDoubleSeconds(found.p50) / at(0.50), 1, 0.0501);
    EXPECT_NEAR(absl::ToDoubleSeconds(found.p95) / at(0.95), 1, 0.0501);
    EXPECT_NEAR(absl::ToDoubleSeconds(found.p99) / at(0.99), 1, 0.0501);
  }
}

TEST(RecentQuantilesTest, SamplesAreForgottenAfterTenSeconds) {
  RecentQuantiles quantiles;
  quantiles.Add(absl::Seconds(1), kNow);
  EXPECT_EQ(quantiles.Read(kNow + absl::Seconds(9)).count, 1);
  EXPECT_EQ(quantiles.Read(kNow + absl::Seconds(10)).count, 0);
  quantiles.Add(absl::Seconds(2), kNow + absl::Seconds(10));  // the slot is used again
  EXPECT_EQ(quantiles.Read(kNow + absl::Seconds(10)).count, 1);
  EXPECT_NEAR(absl::ToDoubleSeconds(quantiles.Read(kNow + absl::Seconds(10)).p50), 2, 0.1);
}

TEST(RecentQuantilesTest, ExtremesStayInTheOuterBins) {
  RecentQuantiles quantiles;
  quantiles.Add(-absl::Seconds(1), kNow);
  quantiles.Add(absl::InfiniteDuration(), kNow);
  EXPECT_EQ(quantiles.Read(kNow).count, 2);
}

}  // namespace
}  // namespace sluice
