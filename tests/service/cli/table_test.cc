#include "service/cli/table.h"

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(TableTest, AlignsColumnsToTheWidestCell) {
  Table table({{"name", Table::Align::kLeft}, {"n", Table::Align::kRight}});
  table.AddRow({"a", "1"});
  table.AddRow({"longer", "1000"});
  EXPECT_EQ(table.Render(),
            "name       n\n"
            "------  ----\n"
            "a          1\n"
            "longer  1000\n");
}

TEST(TableTest, LeavesNoTrailingBlanks) {
  Table table({{"a", Table::Align::kLeft}, {"b", Table::Align::kLeft}});
  table.AddRow({"1", "x"});
  table.AddRow({"2", "long"});
  EXPECT_EQ(table.Render(), "a  b\n-  ----\n1  x\n2  long\n");
}

TEST(TableTest, CountsCharactersNotBytes) {
  EXPECT_EQ(DisplayWidth("κ_ratio"), 7U);
  Table table({{"κ"}, {"x"}});
  table.AddRow({"10", "1"});
  EXPECT_EQ(table.Render(), " κ  x\n--  -\n10  1\n");
}

TEST(TableTest, FixedRoundsToTheGivenDigits) {
  EXPECT_EQ(Fixed(1.25, 1), "1.2");
  EXPECT_EQ(Fixed(12.0, 0), "12");
  EXPECT_EQ(Fixed(-0.5, 2), "-0.50");
}

}  // namespace
}  // namespace sluice
