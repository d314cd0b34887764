// Numbers with units.
#include "service/profiles/quantity.h"

#include <cmath>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(QuantityTest, ReadsEveryKindInBaseUnits) {
  EXPECT_EQ(*ParseQuantity("3.35 TB/s", UnitKind::kByteRate), 3.35e12);
  EXPECT_EQ(*ParseQuantity("24 GiB", UnitKind::kBytes), 25769803776.0);
  EXPECT_EQ(*ParseQuantity("989.4 TFLOP/s", UnitKind::kFlopRate), 989.4e12);
  EXPECT_DOUBLE_EQ(*ParseQuantity("550 ns", UnitKind::kTime), 5.5e-7);
  EXPECT_EQ(*ParseQuantity("0.7 kW", UnitKind::kPower), 700);
  EXPECT_EQ(*ParseQuantity("131072 tokens", UnitKind::kTokens), 131072);
  EXPECT_EQ(*ParseQuantity("7e10 parameters", UnitKind::kParameters), 7e10);
}

TEST(QuantityTest, RefusesWhatHasNoUnitOrAnotherOne) {
  EXPECT_THAT(ParseQuantity("3350", UnitKind::kByteRate),
              StatusIs(kInvalid, AllOf(HasSubstr("\"3350\" has no unit"), HasSubstr("GB/s"))));
  EXPECT_THAT(ParseQuantity("64 GB", UnitKind::kByteRate),
              StatusIs(kInvalid, HasSubstr("has the unit \"GB\", which is not one of this kind")));
  EXPECT_THAT(ParseQuantity("64 gb/s", UnitKind::kByteRate), StatusIs(kInvalid, HasSubstr("gb/s")));
  EXPECT_THAT(ParseQuantity("fast", UnitKind::kByteRate),
              StatusIs(kInvalid, HasSubstr("is not a number with a unit")));
}

TEST(QuantityTest, RefusesWhatIsNotADecimalNumber) {
  for (const char* text : {"nan GB/s", "inf GB/s", "0x10 GB/s", " 64 GB/s", "64  GB/s", "64 GB/s ",
                           "6 4 GB/s", "1e999 GB/s", " GB/s", ""}) {
    EXPECT_FALSE(ParseQuantity(text, UnitKind::kByteRate).ok()) << '"' << text << '"';
  }
}

TEST(QuantityTest, WritesTheShortestTextInTheLargestFittingUnit) {
  EXPECT_EQ(FormatQuantity(3.35e12, UnitKind::kByteRate), "3.35 TB/s");
  EXPECT_EQ(FormatQuantity(80e9, UnitKind::kBytes), "80 GB");
  EXPECT_EQ(FormatQuantity(1.1e15, UnitKind::kFlopRate), "1.1 PFLOP/s");
  EXPECT_EQ(FormatQuantity(5.5e-7, UnitKind::kTime), "550 ns");
  EXPECT_EQ(FormatQuantity(5e-13, UnitKind::kTime), "0.0005 ns");
  EXPECT_EQ(FormatQuantity(12345, UnitKind::kTime), "12345 s");
  EXPECT_EQ(FormatQuantity(1.25e-3, UnitKind::kTime), "1.25 ms");
  EXPECT_EQ(FormatQuantity(0, UnitKind::kTime), "0 s");
  EXPECT_EQ(FormatQuantity(700, UnitKind::kPower), "700 W");
  EXPECT_EQ(FormatQuantity(128, UnitKind::kTokens), "128 tokens");
}

TEST(QuantityTest, WhatIsWrittenReadsBackExactly) {
  constexpr unsigned kSeed = 7;
  std::mt19937_64 random(kSeed);
  std::uniform_real_distribution<double> exponent(-12, 18);
  for (int i = 0; i < 2000; ++i) {
    const double value = std::pow(10.0, exponent(random));
    for (const UnitKind kind : {UnitKind::kByteRate, UnitKind::kFlopRate, UnitKind::kTime}) {
      const std::string text = FormatQuantity(value, kind);
      ASSERT_EQ(*ParseQuantity(text, kind), value) << text << ", seed " << kSeed << ", case " << i;
    }
  }
}

}  // namespace
}  // namespace sluice
