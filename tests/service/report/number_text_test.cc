#include "service/report/number_text.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace sluice {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(NumberTextTest, KeepsSignificantDigitsOnly) {
  EXPECT_EQ(FormatSignificant(14.3049, 3), "14.3");
  EXPECT_EQ(FormatSignificant(0.000123456, 3), "0.000123");
  EXPECT_EQ(FormatSignificant(12345, 3), "12345");
  EXPECT_EQ(FormatSignificant(2.0, 3), "2");
  EXPECT_EQ(FormatSignificant(-0.5, 3), "-0.5");
  EXPECT_EQ(FormatSignificant(0, 3), "0");
}

TEST(NumberTextTest, SaysWhatIsNotANumber) {
  EXPECT_EQ(FormatSignificant(std::nan(""), 3), "–");
  EXPECT_EQ(FormatWithPrefix(kInfinity), "∞");
  EXPECT_EQ(FormatSeconds(-kInfinity), "-∞");
}

TEST(NumberTextTest, QuantitiesHavePrefixes) {
  EXPECT_EQ(FormatWithPrefix(999), "999");
  EXPECT_EQ(FormatWithPrefix(999.7), "1k") << "not 1000";
  EXPECT_EQ(FormatWithPrefix(1500), "1.5k");
  EXPECT_EQ(FormatWithPrefix(-2e6), "-2M");
  EXPECT_EQ(FormatWithPrefix(70.6e9), "70.6G");
  EXPECT_EQ(FormatWithPrefix(1e20), "100000P") << "the last prefix is kept";
}

TEST(NumberTextTest, SecondsChangeUnitsWhereARoundedNumberWould) {
  EXPECT_EQ(FormatSeconds(0), "0 s");
  EXPECT_EQ(FormatSeconds(12e-6), "12 µs");
  EXPECT_EQ(FormatSeconds(0.0035), "3.5 ms");
  EXPECT_EQ(FormatSeconds(0.99996), "1 s") << "not 1000 ms";
  EXPECT_EQ(FormatSeconds(90), "90 s");
  EXPECT_EQ(FormatSeconds(150), "2.5 min");
  EXPECT_EQ(FormatSeconds(9000), "2.5 h");
}

TEST(NumberTextTest, SharesAndBytes) {
  EXPECT_EQ(FormatPercent(0.1234), "12.3 %");
  EXPECT_EQ(FormatPercent(1), "100 %");
  EXPECT_EQ(FormatBinaryBytes(512), "512 B");
  EXPECT_EQ(FormatBinaryBytes(327680), "320 KiB");
  EXPECT_EQ(FormatBinaryBytes(1.5 * (1 << 30)), "1.5 GiB");
}

}  // namespace
}  // namespace sluice
