#include "service/report/axis_scale.h"

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

AxisScale Make(Axis axis, std::vector<double> data) {
  Extent extent(axis.scale);
  for (const double value : data) extent.Add(value);
  return AxisScale(axis, extent);
}

std::vector<std::string> Labels(const AxisScale& axis, int limit) {
  std::vector<std::string> labels;
  for (const Tick& tick : axis.Ticks(limit)) labels.push_back(tick.label);
  return labels;
}

TEST(AxisScaleTest, LinearAxesOfPositiveDataBeginAtZeroAndEndAtATick) {
  const AxisScale axis = Make({}, {3, 87});
  EXPECT_EQ(axis.low(), 0);
  EXPECT_EQ(axis.high(), 100);
  EXPECT_THAT(Labels(axis, 6), ElementsAre("0", "20", "40", "60", "80", "100"));
}

TEST(AxisScaleTest, NegativeDataKeepZeroInside) {
  const AxisScale axis = Make({}, {-3, 8});
  EXPECT_LE(axis.low(), -3);
  EXPECT_THAT(Labels(axis, 5), ElementsAre("-5", "0", "5", "10"));
}

TEST(AxisScaleTest, LogAxesTickPowersOfTen) {
  const AxisScale axis = Make({.scale = Scale::kLog}, {3, 70000});
  EXPECT_EQ(axis.low(), 2);
  EXPECT_EQ(axis.high(), 100000);
  EXPECT_THAT(Labels(axis, 8), ElementsAre("10", "100", "1k", "10k", "100k"));
  EXPECT_THAT(Labels(axis, 3), ElementsAre("100", "10k"));
}

TEST(AxisScaleTest, ShortLogAxesTickBetweenPowersOfTen) {
  EXPECT_THAT(Labels(Make({.scale = Scale::kLog}, {2, 40}), 8),
              ElementsAre("2", "5", "10", "20", "50"));
  EXPECT_THAT(Labels(Make({.scale = Scale::kLog, .min = 100, .max = 130}, {}), 4),
              ElementsAre("100", "110", "120", "130"));
}

TEST(AxisScaleTest, SecondsAreCountedInTheUnitThatFits) {
  const Axis seconds{.format = TickFormat::kSeconds};
  EXPECT_THAT(Labels(Make(seconds, {0.5}), 6),
              ElementsAre("0 s", "100 ms", "200 ms", "300 ms", "400 ms", "500 ms"));
  EXPECT_THAT(Labels(Make(seconds, {290}), 6),
              ElementsAre("0 s", "1 min", "2 min", "3 min", "4 min", "5 min"));
  const Axis log{.scale = Scale::kLog, .format = TickFormat::kSeconds};
  EXPECT_THAT(Labels(Make(log, {0.02, 4000}), 9),
              ElementsAre("100 ms", "1 s", "10 s", "1 min", "10 min", "1 h"));
}

TEST(AxisScaleTest, BytesTickPowersOfTwo) {
  const Axis bytes{.scale = Scale::kLog, .format = TickFormat::kBytes, .min = 4096, .max = 1 << 22};
  EXPECT_THAT(Labels(Make(bytes, {}), 4), ElementsAre("32 KiB", "1 MiB"));
  const Axis linear{.format = TickFormat::kBytes};
  EXPECT_THAT(Labels(Make(linear, {3.6 * (1 << 30)}), 5),
              ElementsAre("0 B", "1 GiB", "2 GiB", "3 GiB", "4 GiB"));
}

TEST(AxisScaleTest, LabelsGetTheDigitsThatTellThemApart) {
  EXPECT_THAT(Labels(Make({.min = 10000, .max = 10040}, {}), 5),
              ElementsAre("10k", "10.01k", "10.02k", "10.03k", "10.04k"));
}

TEST(AxisScaleTest, ValuesThatCannotBeShownDoNotCount) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const AxisScale linear = Make({}, {nan, 5, infinity, -infinity, 1e300});
  EXPECT_EQ(linear.low(), 0);
  EXPECT_EQ(linear.high(), 5);
  EXPECT_FALSE(linear.CanShow(nan));
  const AxisScale log = Make({.scale = Scale::kLog}, {0, -3, 10, 1000});
  EXPECT_EQ(log.low(), 10);
  EXPECT_FALSE(log.CanShow(0));
}

TEST(AxisScaleTest, WithoutDataOrSpanThereIsStillAnAxis) {
  EXPECT_EQ(Make({}, {}).high(), 1);
  EXPECT_EQ(Make({.scale = Scale::kLog}, {}).high(), 10);
  for (const Scale scale : {Scale::kLinear, Scale::kLog}) {
    const AxisScale axis = Make({.scale = scale}, {7});
    EXPECT_LT(axis.low(), 7);
    EXPECT_GE(axis.high(), 7);
    EXPECT_GE(axis.Ticks(6).size(), 2u);
  }
  EXPECT_LT(Make({}, {0}).low(), Make({}, {0}).high());
}

TEST(AxisScaleTest, EndsTheCallerSetsAreKept) {
  const AxisScale axis = Make({.min = 0.13, .max = 0.97}, {5});
  EXPECT_EQ(axis.low(), 0.13);
  EXPECT_EQ(axis.high(), 0.97);
  EXPECT_EQ(Make({.scale = Scale::kLog, .min = -1}, {3, 5}).low(), 2) << "cannot be shown: ignored";
}

TEST(AxisScaleTest, TitleHasTheUnit) {
  EXPECT_EQ(Make({.title = "link", .unit = "GB/s"}, {}).Title(), "link (GB/s)");
  EXPECT_EQ(Make({.title = "tokens"}, {}).Title(), "tokens");
}

// Whatever the range: ticks ascend, lie within the axis, have labels of their own, and are few.
TEST(AxisScaleTest, TicksHoldTheirPromisesForRandomRanges) {
  constexpr unsigned kSeed = 20260731;
  std::mt19937 rng(kSeed);
  std::uniform_real_distribution<double> exponent(-12, 15), share(0, 1);
  for (int i = 0; i < 4000; ++i) {
    Axis axis;
    axis.scale = i % 2 == 0 ? Scale::kLinear : Scale::kLog;
    axis.format = static_cast<TickFormat>(i / 2 % 4);
    const double a = std::pow(10, exponent(rng)), b = std::pow(10, exponent(rng));
    const double sign = axis.scale == Scale::kLinear && share(rng) < 0.3 ? -1 : 1;
    const AxisScale scale = Make(axis, {sign * a, b});
    const int limit = 2 + i % 9;
    SCOPED_TRACE(::testing::Message() << "seed " << kSeed << " case " << i << ": " << sign * a
                                      << " to " << b << ", at most " << limit);
    const std::vector<Tick> ticks = scale.Ticks(limit);
    EXPECT_LE(ticks.size(), static_cast<size_t>(limit));
    std::set<std::string> labels;
    double last = -std::numeric_limits<double>::infinity();
    for (const Tick& tick : ticks) {
      EXPECT_GT(tick.value, last);
      EXPECT_GE(scale.Share(tick.value), -1e-6);
      EXPECT_LE(scale.Share(tick.value), 1 + 1e-6);
      labels.insert(tick.label);
      last = tick.value;
    }
    EXPECT_EQ(labels.size(), ticks.size());
    EXPECT_NEAR(scale.Share(scale.At(0.37)), 0.37, 1e-9);
  }
}

}  // namespace
}  // namespace sluice
