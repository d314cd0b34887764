#include "service/cli/progress_bar.h"

#include <algorithm>
#include <sstream>

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(ProgressBarTest, RedrawsOneLineOnATerminal) {
  std::ostringstream out;
  {
    ProgressBar bar(out, true, "work", 2);
    bar.Update(0, "a long note");
    bar.Update(1, "x");
    bar.Update(2, "");
  }
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\r'), 3);
  EXPECT_NE(text.find("[###############...............] 1/2  x"), std::string::npos) << text;
  // The shorter line wipes out the longer one before it.
  const size_t first = text.find('\r', 1);
  EXPECT_EQ(text.find('\r', first + 1) - first, first);
}

TEST(ProgressBarTest, WritesAPlainLinePerTenthElsewhere) {
  std::ostringstream out;
  ProgressBar bar(out, false, "work", 100);
  for (int i = 0; i <= 100; ++i) bar.Update(i, "");
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 11);
  EXPECT_EQ(text.substr(0, 11), "work 0/100\n");
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST(ProgressBarTest, ClampsToTheTotalAndSurvivesAnEmptyOne) {
  std::ostringstream out;
  ProgressBar bar(out, false, "work", 0);
  bar.Update(5, "");
  EXPECT_EQ(out.str(), "work 1/1\n");
}

}  // namespace
}  // namespace sluice
