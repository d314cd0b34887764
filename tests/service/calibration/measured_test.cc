#include "service/calibration/measured.h"

#include "gtest/gtest.h"

namespace sluice::testing {
namespace {

const RunTimes kTimes{absl::Milliseconds(1), absl::Milliseconds(2), absl::Milliseconds(4),
                      absl::Milliseconds(5), absl::Milliseconds(8), 12};

TEST(MeasuredTest, RatesTakeTheFasterQuarterAndTurnTheIntervalRound) {
  const Measured rate = MeasuredRate("reading", UnitKind::kByteRate, 8e6, kTimes);
  EXPECT_DOUBLE_EQ(rate.value, 2e9);
  EXPECT_DOUBLE_EQ(rate.low, 1e9);
  EXPECT_DOUBLE_EQ(rate.high, 4e9);
  EXPECT_DOUBLE_EQ(rate.best, 8e9);
  EXPECT_EQ(rate.Value(), "2 GB/s");
  EXPECT_EQ(rate.Interval(), "80 % of 12 runs from 1 GB/s to 4 GB/s");
}

TEST(MeasuredTest, TimesAreDividedByTheirParts) {
  const Measured time = MeasuredTime("run", kTimes, 1000);
  EXPECT_DOUBLE_EQ(time.value, 4e-6);
  EXPECT_DOUBLE_EQ(time.low, 2e-6);
  EXPECT_DOUBLE_EQ(time.high, 8e-6);
  EXPECT_EQ(time.Value(), "4 us");
}

TEST(MeasuredTest, ThreeDigitsAreKeptAndReadWell) {
  EXPECT_EQ(ThreeDigits(123456), 123000);
  EXPECT_EQ(ThreeDigits(0.00123456), 0.00123);
  EXPECT_EQ(ThreeDigits(9.999), 10);
  EXPECT_EQ(ThreeDigits(0), 0);
  EXPECT_EQ(FormatQuantity(ThreeDigits(2.9871e-6), UnitKind::kTime), "2.99 us");
  EXPECT_EQ(FormatQuantity(ThreeDigits(6.9231e11), UnitKind::kFlopRate), "692 GFLOP/s");
}

TEST(MeasuredTest, SourcesNameEveryFigureWithItsInterval) {
  const Measured rate = MeasuredRate("reading", UnitKind::kByteRate, 8e6, kTimes);
  const Measured time = MeasuredTime("run", kTimes);
  EXPECT_EQ(
      DescribeMeasured({rate, time}),
      "reading 2 GB/s (80 % of 12 runs from 1 GB/s to 4 GB/s); run 4 ms (80 % of 12 runs from "
      "2 ms to 8 ms)");
}

}  // namespace
}  // namespace sluice::testing
