#include "service/config/flag_values.h"

#include <limits>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
constexpr absl::StatusCode kBad = absl::StatusCode::kInvalidArgument;

TEST(ParseIntegerTest, AcceptsTheRangeAndItsEnds) {
  EXPECT_EQ(*ParseInteger("0", 0, 65535), 0);
  EXPECT_EQ(*ParseInteger("65535", 0, 65535), 65535);
  EXPECT_EQ(*ParseInteger("-100", -100, 100), -100);
}

TEST(ParseIntegerTest, NamesValueAndLimit) {
  EXPECT_THAT(ParseInteger("70000", 0, 65535), StatusIs(kBad, "70000 is not in [0, 65535]"));
  EXPECT_THAT(ParseInteger("-1", 0, 65535), StatusIs(kBad, "-1 is not in [0, 65535]"));
  for (const char* text : {"", "x", "1.5", "0x10", "1 2", "99999999999999999999"}) {
    EXPECT_THAT(ParseInteger(text, 0, 9),
                StatusIs(kBad, HasSubstr("is not a whole number in [0, 9]")))
        << text;
  }
}

TEST(ParseNumberTest, RefusesWhatIsNotFinite) {
  EXPECT_DOUBLE_EQ(*ParseNumber("0.05", 0, 1), 0.05);
  EXPECT_DOUBLE_EQ(*ParseNumber("1e-3", 0, 1), 0.001);
  for (const char* text : {"nan", "inf", "-inf", "", "one"}) {
    EXPECT_THAT(ParseNumber(text, 0, 1), StatusIs(kBad, HasSubstr("is not a number in [0, 1]")))
        << text;
  }
  EXPECT_THAT(ParseNumber("1.5", 0, 1), StatusIs(kBad, "1.5 is not in [0, 1]"));
}

TEST(ParseUnsignedTest, TakesTheWholeRange) {
  EXPECT_EQ(*ParseUnsigned("18446744073709551615"), std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(ParseUnsigned("-1"), StatusIs(kBad, HasSubstr("\"-1\" is not a whole number")));
}

TEST(ParseSizeTest, PlainNumbersAreGibibytesAndSuffixesAreTheirOwn) {
  EXPECT_EQ(*ParseSize("2"), Bytes(int64_t{2} << 30));
  EXPECT_EQ(*ParseSize("0.5"), MiB(512));
  EXPECT_EQ(*ParseSize("64MiB"), MiB(64));
  EXPECT_EQ(*ParseSize("64mib"), MiB(64));
  EXPECT_EQ(*ParseSize("2 GiB"), MiB(2048));
  EXPECT_EQ(*ParseSize("1GB"), Bytes(1000000000));
  EXPECT_EQ(*ParseSize("4096B"), Bytes(4096));
  EXPECT_EQ(*ParseSize("16KiB"), Bytes(16384));
  EXPECT_EQ(*ParseSize("0"), Bytes(0));
}

TEST(ParseSizeTest, SaysHowToWriteASize) {
  for (const char* text : {"", "GiB", "much", "1 furlong", "nan"}) {
    EXPECT_THAT(ParseSize(text), StatusIs(kBad, HasSubstr("512MiB"))) << text;
  }
  EXPECT_THAT(ParseSize("-1"), StatusIs(kBad, HasSubstr("is not in [0, 1000 TB]")));
  EXPECT_THAT(ParseSize("1e30"), StatusIs(kBad, HasSubstr("is not in [0, 1000 TB]")));
}

TEST(ParseTokenIdsTest, ReadsListsAndNamesTheBadPiece) {
  EXPECT_THAT(*ParseTokenIds("7"), ElementsAre(7U));
  EXPECT_THAT(*ParseTokenIds("1, 2,3"), ElementsAre(1U, 2U, 3U));
  EXPECT_THAT(ParseTokenIds(""), StatusIs(kBad, HasSubstr("\"\" is not a token id")));
  EXPECT_THAT(ParseTokenIds("1,,2"), StatusIs(kBad, HasSubstr("\"\" is not a token id")));
  EXPECT_THAT(ParseTokenIds("1,-2"), StatusIs(kBad, HasSubstr("\"-2\" is not a token id")));
}

TEST(FormatTest, ReadsWell) {
  EXPECT_EQ(FormatBytes(Bytes(0)), "0 B");
  EXPECT_EQ(FormatBytes(Bytes(1023)), "1023 B");
  EXPECT_EQ(FormatBytes(MiB(64)), "64 MiB");
  EXPECT_EQ(FormatBytes(MiB(1536)), "1.50 GiB");
  EXPECT_EQ(FormatNumber(0.05), "0.05");
  EXPECT_EQ(FormatNumber(1), "1");
}

}  // namespace
}  // namespace sluice
