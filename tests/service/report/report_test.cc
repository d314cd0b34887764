#include "service/report/report.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/report/sample_charts.h"
#include "tests/service/report/xml_check.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::ParseXml;
using ::sluice::testing::SampleReport;
using ::sluice::testing::StatusIs;
using ::sluice::testing::XmlElement;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

XmlElement Parsed(const Report& report) {
  const absl::StatusOr<XmlElement> page = ParseXml(report.Html());
  EXPECT_THAT(page, IsOk());
  return page.value_or(XmlElement());
}

TEST(ReportTest, PageIsWellFormedAndSelfContained) {
  const std::string html = SampleReport().Html();
  const XmlElement page = Parsed(SampleReport());
  EXPECT_EQ(page.name, "html");
  EXPECT_THAT(page.All("figure"), SizeIs(9));
  for (const char* tag : {"script", "link", "img", "iframe", "image", "use"}) {
    EXPECT_THAT(page.All(tag), IsEmpty()) << tag;
  }
  for (const char* word : {"src=", "href=", "url(", "@import", "onload"}) {
    EXPECT_THAT(html, Not(HasSubstr(word)));
  }
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(html, HasSubstr("@media print"));
}

TEST(ReportTest, SameCallsSameBytes) { EXPECT_EQ(SampleReport().Html(), SampleReport().Html()); }

TEST(ReportTest, EveryTextIsEscaped) {
  const std::string evil = "<b onload=\"x\">&amp;</b>";
  Report report(evil, evil);
  report.AddFigures({{evil, evil, evil, evil}});
  report.AddSection(evil, evil);
  report.AddParagraph(evil);
  report.AddTable({.title = evil, .columns = {{evil}}, .rows = {{evil}}, .note = evil});
  report.AddChart({.title = evil, .note = evil, .chart = LineChart()});
  report.AddFooter(evil);
  const XmlElement page = Parsed(report);
  EXPECT_THAT(page.All("b"), IsEmpty());
  EXPECT_EQ(page.All("td").front()->text, evil);
  EXPECT_EQ(page.All("title").front()->text, evil);
}

TEST(ReportTest, ChartsAreDrawnForEveryScreen) {
  Report report("t", "s");
  report.AddChart({.title = "half", .chart = LineChart()});
  report.AddChart({.title = "wide", .chart = LineChart(), .wide = true});
  report.AddChart({.title = "gantt", .chart = GanttChart(), .wide = true});
  std::vector<std::string> widths;
  const XmlElement page = Parsed(report);
  for (const XmlElement* svg : page.All("svg")) {
    if (svg->attributes.count("role") > 0) widths.push_back(svg->attributes.at("width"));
  }
  EXPECT_THAT(widths, ::testing::ElementsAre("360", "560", "360", "560", "1140", "1140"));
}

TEST(ReportTest, OrderIsKeptAndEmptyPartsLeaveNoTrace) {
  Report report("title", "");
  report.AddSection("one");
  report.AddChart({.title = "two", .chart = LineChart()});
  report.AddParagraph("three");
  const std::string html = report.Html();
  EXPECT_LT(html.find(">one<"), html.find(">two<"));
  EXPECT_LT(html.find(">two<"), html.find(">three<"));
  EXPECT_THAT(Parsed(report).All("footer"), IsEmpty());
  EXPECT_THAT(Parsed(report).All("p"), SizeIs(1));
}

TEST(ReportTest, IsWrittenToAFile) {
  const testing::TempDir dir;
  const std::string path = dir.File("report.html");
  ASSERT_THAT(WriteReport(path, SampleReport()), IsOk());
  EXPECT_EQ(dir.Read("report.html"), SampleReport().Html());
  const std::string nowhere = dir.File("no/such/folder/report.html");
  EXPECT_THAT(WriteReport(nowhere, SampleReport()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(nowhere)));
}

}  // namespace
}  // namespace sluice
