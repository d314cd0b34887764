#include "service/cli/plan_options.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/cli/plan_runner.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::PlanOptionsOf;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

constexpr absl::StatusCode kBad = absl::StatusCode::kInvalidArgument;

TEST(ParseUserQuantityTest, TakesTheUnitWithAndWithoutABlank) {
  EXPECT_DOUBLE_EQ(*ParseUserQuantity("15GB/s", UnitKind::kByteRate), 15e9);
  EXPECT_DOUBLE_EQ(*ParseUserQuantity("15 GB/s", UnitKind::kByteRate), 15e9);
  EXPECT_DOUBLE_EQ(*ParseUserQuantity("1.5e3MB/s", UnitKind::kByteRate), 1.5e9);
  EXPECT_DOUBLE_EQ(*ParseUserQuantity("300W", UnitKind::kPower), 300);
  EXPECT_DOUBLE_EQ(*ParseUserQuantity("0.3kW", UnitKind::kPower), 300);
  EXPECT_DOUBLE_EQ(*ParseUserQuantity("5ms", UnitKind::kTime), 0.005);
}

TEST(ParseUserQuantityTest, SaysWhatIsWrongAndWhatIsAllowed) {
  const auto parse = [](const char* text) {
    return ParseUserQuantity(text, UnitKind::kByteRate).status();
  };
  EXPECT_THAT(parse("15"), StatusIs(kBad, HasSubstr("\"15\" has no unit; want a number and one of "
                                                    "B/s, kB/s, MB/s, GB/s")));
  EXPECT_THAT(parse("fast"), StatusIs(kBad, HasSubstr("\"fast\" is not a number")));
  EXPECT_THAT(parse(""), StatusIs(kBad, HasSubstr("is not a number")));
  EXPECT_THAT(parse("15GB"), StatusIs(kBad, HasSubstr("\"15GB\" is not understood")));
  EXPECT_THAT(parse("1.2.3GB/s"), StatusIs(kBad, HasSubstr("is not understood")));
  EXPECT_THAT(parse("-15GB/s"), StatusIs(kBad, HasSubstr("is not above 0")));
  EXPECT_THAT(parse("0GB/s"), StatusIs(kBad, HasSubstr("is not above 0")));
}

TEST(PlanOptionsTest, TheBasisIsSustainedUnlessAskedOtherwise) {
  EXPECT_EQ(PlanOptionsOf({}).rate_basis(), RateBasis::kSustained);
  EXPECT_EQ(PlanOptionsOf({"--basis=peak"}).rate_basis(), RateBasis::kPeakDense);
  EXPECT_EQ(PlanOptionsOf({"--basis=paper"}).rate_basis(), RateBasis::kPaper);
  EXPECT_EQ(PlanOptionsOf({"--paper"}).rate_basis(), RateBasis::kPaper);
}

TEST(PlanOptionsTest, OnlyListAndPaperDoWithoutModelAndHardware) {
  EXPECT_THAT(PlanOptionsOf({"--list"}).Validate(), IsOk());
  EXPECT_THAT(PlanOptionsOf({"--paper"}).Validate(), IsOk());
  EXPECT_THAT(PlanOptionsOf({}).Validate(), StatusIs(kBad, HasSubstr("--model: is required")));
  EXPECT_THAT(PlanOptionsOf({"--model=m"}).Validate(),
              StatusIs(kBad, HasSubstr("--hardware: is required")));
  EXPECT_THAT(PlanOptionsOf({"--paper", "--hardware=h"}).Validate(),
              StatusIs(kBad, HasSubstr("--model: is required")));
}

TEST(PlanOptionsTest, RefusesWhatMakesNoSense) {
  const auto validate = [](std::vector<std::string> args) {
    args.insert(args.end(), {"--model=m", "--hardware=h"});
    return PlanOptionsOf(args).Validate();
  };
  EXPECT_THAT(validate({}), IsOk());
  EXPECT_THAT(validate({"--cached=5"}), StatusIs(kBad, HasSubstr("needs both --cached and --new")));
  EXPECT_THAT(validate({"--new=5"}), StatusIs(kBad, HasSubstr("needs both --cached and --new")));
  EXPECT_THAT(validate({"--kv-dtype=fp17"}),
              StatusIs(kBad, HasSubstr("--kv-dtype: \"fp17\" is not a number format; want one of "
                                       "f32, bf16")));
  EXPECT_THAT(validate({"--link=15"}), StatusIs(kBad, HasSubstr("--link: \"15\" has no unit")));
  EXPECT_THAT(validate({"--power-cap=300"}),
              StatusIs(kBad, HasSubstr("--power-cap: \"300\" has no unit; want a number and one of "
                                       "mW, W, kW")));
}

}  // namespace
}  // namespace sluice
