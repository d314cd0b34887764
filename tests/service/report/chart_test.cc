#include "service/report/chart.h"

#include <cmath>
#include <limits>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/report/svg.h"
#include "tests/service/report/sample_charts.h"
#include "tests/service/report/xml_check.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::NamedChart;
using ::sluice::testing::ParseXml;
using ::sluice::testing::SampleCharts;
using ::sluice::testing::XmlElement;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

const double kNan = std::nan("");
const double kInfinity = std::numeric_limits<double>::infinity();

XmlElement Render(const Chart& chart, int width = kHalfWidth) {
  const absl::StatusOr<XmlElement> svg = ParseXml(RenderSvg(chart, width, "a chart"));
  EXPECT_THAT(svg, IsOk());
  return svg.value_or(XmlElement());
}

double Number(const XmlElement& element, const std::string& attribute) {
  double value = 0;
  EXPECT_TRUE(absl::SimpleAtod(element.attributes.at(attribute), &value)) << attribute;
  return value;
}

std::vector<std::string> Texts(const XmlElement& svg) {
  std::vector<std::string> texts;
  for (const XmlElement* text : svg.All("text")) texts.push_back(text->text);
  return texts;
}

// Where a text is drawn, as wide as the drawing assumed.
Box TextBox(const XmlElement& text) {
  const double width = TextWidth(text.text);
  double x = Number(text, "x");
  const auto anchor = text.attributes.find("text-anchor");
  if (anchor != text.attributes.end()) x -= anchor->second == "end" ? width : width / 2;
  return {x, Number(text, "y") - 9, width, 11};
}

std::vector<const XmlElement*> WithClass(const XmlElement& svg, const std::string& tag,
                                         const std::string& word) {
  std::vector<const XmlElement*> found;
  for (const XmlElement* element : svg.All(tag)) {
    const std::string classes = absl::StrCat(" ", element->attributes.at("class"), " ");
    if (absl::StrContains(classes, absl::StrCat(" ", word, " "))) found.push_back(element);
  }
  return found;
}

class EveryChartTest : public ::testing::TestWithParam<NamedChart> {};

TEST_P(EveryChartTest, IsWellFormedAtEveryWidth) {
  for (const int width : {200, kNarrowWidth, kHalfWidth, kFullWidth}) {
    const XmlElement svg = Render(GetParam().chart, width);
    EXPECT_EQ(svg.name, "svg");
    EXPECT_EQ(svg.attributes.at("aria-label"), "a chart");
    EXPECT_EQ(Number(svg, "width"), width);
    EXPECT_GT(Number(svg, "height"), 30);
  }
}

TEST_P(EveryChartTest, LabelsDoNotTouchAndStayInside) {
  for (const int width : {kNarrowWidth, kHalfWidth, kFullWidth}) {
    const XmlElement svg = Render(GetParam().chart, width);
    const std::vector<const XmlElement*> texts = svg.All("text");
    for (size_t i = 0; i < texts.size(); ++i) {
      const Box box = TextBox(*texts[i]);
      EXPECT_GE(box.x, -1) << texts[i]->text << " at width " << width;
      EXPECT_LE(box.right(), width + 1) << texts[i]->text << " at width " << width;
      EXPECT_LE(box.bottom(), Number(svg, "height") + 1) << texts[i]->text;
      for (size_t j = 0; j < i; ++j) {
        EXPECT_FALSE(box.Overlaps(TextBox(*texts[j])))
            << texts[i]->text << " over " << texts[j]->text << " at width " << width;
      }
    }
  }
}

TEST_P(EveryChartTest, SameChartSameBytes) {
  EXPECT_EQ(RenderSvg(GetParam().chart, kHalfWidth, "x"),
            RenderSvg(GetParam().chart, kHalfWidth, "x"));
}

TEST_P(EveryChartTest, IsAlsoAFileOfItsOwn) {
  const std::string text = RenderSvgFile(GetParam().chart, kHalfWidth, "Title & more");
  const absl::StatusOr<XmlElement> svg = ParseXml(text);
  ASSERT_THAT(svg, IsOk());
  EXPECT_THAT(Texts(*svg), Contains("Title & more"));
  EXPECT_THAT(svg->All("style"), SizeIs(1));
  EXPECT_THAT(svg->All("style").front()->text, HasSubstr("prefers-color-scheme:dark"));
}

TEST_P(EveryChartTest, HasNoScriptIdOrOutsideReference) {
  const std::string svg = RenderSvg(GetParam().chart, kHalfWidth, "x");
  for (const char* word : {"script", "href", "url(", " id=", "nan", "inf\""}) {
    EXPECT_THAT(svg, Not(HasSubstr(word)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryChartTest, ::testing::ValuesIn(SampleCharts()),
                         [](const auto& test) { return test.param.name; });

class EmptyChartTest : public ::testing::TestWithParam<NamedChart> {};

TEST_P(EmptyChartTest, SaysThatThereIsNoData) {
  EXPECT_THAT(Texts(Render(GetParam().chart)), Contains("no data"));
}

INSTANTIATE_TEST_SUITE_P(
    All, EmptyChartTest,
    ::testing::Values(
        NamedChart{"Line", LineChart()},
        NamedChart{"LineOfNothingDrawable",
                   LineChart{.y = {.scale = Scale::kLog},
                             .series = {{.points = {{kNan, 1}, {1, 0}, {2, -1}, {kInfinity, 1}}}}}},
        NamedChart{"RegionMap", RegionMap()},
        NamedChart{"RegionMapWithBadEdges",
                   RegionMap{.x_edges = {1, kNan}, .y_edges = {1, 2}, .cells = {0}}},
        NamedChart{"Bars", BarChart()}, NamedChart{"Columns", ColumnChart()},
        NamedChart{"Histogram", Histogram()},
        NamedChart{"HistogramOfNothingDrawable", HistogramOf({}, {kNan, kInfinity}, 5)},
        NamedChart{"Lanes", LaneChart{.lanes = {{}, {}}}}, NamedChart{"Gantt", GanttChart()},
        NamedChart{"GanttOfNothingDrawable",
                   GanttChart{.rows = {"a"},
                              .kinds = {"k"},
                              .spans = {{.row = 3, .from = 0, .to = 1},
                                        {.row = 0, .from = kNan, .to = 1}}}},
        NamedChart{"Cdf", CdfChart({}, {{"none", {}}})}),
    [](const auto& test) { return test.param.name; });

TEST(ChartTest, TextIsEscaped) {
  const std::string evil = "</text><script>alert('x')</script>";
  LineChart line{.x = {.title = evil}, .series = {{.name = evil, .points = {{1, 1}, {2, 2}}}}};
  line.x_lines = {{.at = 1.5, .label = "</svg>"}};
  const BarChart bars{.parts = {evil}, .bars = {{.label = evil, .parts = {1}}}};
  const GanttChart gantt{.rows = {evil}, .kinds = {evil}, .spans = {{.to = 1, .title = evil}}};
  for (const Chart& chart : {Chart(line), Chart(bars), Chart(gantt)}) {
    const XmlElement svg = Render(chart, kFullWidth);
    EXPECT_THAT(svg.All("script"), IsEmpty());
    EXPECT_THAT(Texts(svg), Contains(HasSubstr("<script>")));
  }
}

TEST(LineChartTest, ALineBreaksAtNumbersThatCannotBeDrawn) {
  const LineChart chart{
      .series = {{.points = {{0, 1}, {1, 2}, {2, kNan}, {3, 2}, {4, kInfinity}, {5, 1}}}}};
  const XmlElement svg = Render(chart);
  const auto lines = WithClass(svg, "path", "l");
  ASSERT_THAT(lines, SizeIs(1));
  const std::string& path = lines.front()->attributes.at("d");
  EXPECT_EQ(std::count(path.begin(), path.end(), 'M'), 3) << path;
}

TEST(LineChartTest, LongSeriesAreThinnedButKeepTheirPeaks) {
  LineChart chart{.x = {.min = 0, .max = 99999}, .y = {.min = 0, .max = 100}};
  chart.series.resize(1);
  for (int i = 0; i < 100000; ++i) {
    chart.series[0].points.push_back({static_cast<double>(i), i == 31415 ? 100.0 : 10.0 + i % 7});
  }
  const std::string svg = RenderSvg(chart, kHalfWidth, "x");
  EXPECT_LT(svg.size(), 60000u);
  const XmlElement parsed = Render(chart);
  double top = 1e9;
  for (const XmlElement* line : WithClass(parsed, "line", "g")) {
    top = std::min(top, Number(*line, "y1"));
  }
  EXPECT_THAT(svg, HasSubstr(absl::StrCat(" ", Px(top), "L"))) << "the peak touches the top";
}

TEST(LineChartTest, ReferenceLinesAreInsideTheAxes) {
  const LineChart chart{
      .x = {.scale = Scale::kLog},
      .series = {{.points = {{1, 1}, {10, 2}}}},
      .x_lines = {{.at = 500, .label = "far away"}, {.at = -1, .label = "never"}}};
  const XmlElement svg = Render(chart);
  EXPECT_THAT(Texts(svg), Contains("far away"));
  EXPECT_THAT(Texts(svg), Not(Contains("never")));
}

TEST(LineChartTest, SeriesKeepTheirColoursAndOthersGetTheRest) {
  LineChart chart;
  for (const int color : {kAutoColor, 0, kAutoColor, 9}) {
    chart.series.push_back({.name = "x", .points = {{0, 1}, {1, 1}}, .color = color});
  }
  const XmlElement svg = Render(chart);
  const auto lines = WithClass(svg, "path", "l");
  ASSERT_THAT(lines, SizeIs(4));
  EXPECT_EQ(lines[0]->attributes.at("class"), "l s1");
  EXPECT_EQ(lines[1]->attributes.at("class"), "l s0");
  EXPECT_EQ(lines[2]->attributes.at("class"), "l s2");
  EXPECT_EQ(lines[3]->attributes.at("class"), "l s1 d1") << "the second round is dashed";
}

TEST(RegionMapTest, NeighboursOfOneCategoryAreOneRectangle) {
  const RegionMap map{.x_edges = {0, 1, 2, 3},
                      .y_edges = {0, 1, 2},
                      .cells = {0, 0, 0, 1, 0, -1},
                      .categories = {"first", "second"}};
  EXPECT_THAT(WithClass(Render(map), "rect", "cell"), SizeIs(3));
}

TEST(BarChartTest, PartsThatCannotBeDrawnAreLeftOut) {
  const BarChart chart{.parts = {"a", "b", "c", "d"},
                       .bars = {{.label = "x", .parts = {1, kNan, -3, 2}}}};
  const XmlElement svg = Render(chart);
  double width = 0;
  size_t bars = 0;
  for (const XmlElement* rect : svg.All("rect")) {
    if (rect->children.empty()) continue;  // the legend
    width += Number(*rect, "width");
    ++bars;
  }
  EXPECT_EQ(bars, 2u);
  EXPECT_GT(width, 100);
  EXPECT_THAT(Texts(svg), Contains("3")) << "the sum of what is drawn";
}

TEST(GanttChartTest, ManySmallSpansStaySmall) {
  GanttChart chart{.x = {.format = TickFormat::kSeconds}, .rows = {"link"}, .kinds = {"load"}};
  for (int i = 0; i < 50000; ++i) {
    chart.spans.push_back({.from = i * 1e-3, .to = i * 1e-3 + 0.9e-3});
  }
  const std::string svg = RenderSvg(chart, kFullWidth, "x");
  EXPECT_LT(svg.size(), 20000u);
}

TEST(GanttChartTest, KindsAndGapsStayApart) {
  const GanttChart chart{.rows = {"link"},
                         .kinds = {"load", "store"},
                         .spans = {{.from = 0, .to = 1, .kind = 0},
                                   {.from = 1, .to = 2, .kind = 1},
                                   {.from = 2, .to = 3, .kind = 0},
                                   {.from = 9, .to = 10, .kind = 0}}};
  const XmlElement svg = Render(chart);
  EXPECT_THAT(WithClass(svg, "rect", "f0"), SizeIs(3 + 1));  // and the legend's
  EXPECT_THAT(WithClass(svg, "rect", "f1"), SizeIs(1 + 1));
}

TEST(CdfTest, CountsWhatCannotBeDrawn) {
  const LineChart chart =
      CdfChart({.scale = Scale::kLog}, {{"k", {0, 0, 10, 100, kInfinity, kNan}}});
  ASSERT_THAT(chart.series, SizeIs(1));
  const std::vector<Point>& points = chart.series[0].points;
  ASSERT_THAT(points, SizeIs(3));
  EXPECT_DOUBLE_EQ(points[0].y, 0.4) << "two of five are 0";
  EXPECT_DOUBLE_EQ(points[1].y, 0.6);
  EXPECT_DOUBLE_EQ(points[2].y, 0.8) << "one is infinite; NaN is nobody";
}

TEST(CdfTest, AgreesWithCountingForRandomValues) {
  for (const unsigned seed : {1u, 2u, 3u}) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    std::vector<double> values;
    for (int i = 0; i < 3000; ++i) values.push_back(static_cast<double>(rng() % 1000));
    const LineChart chart = CdfChart({}, {{"v", values}});
    const std::vector<Point>& points = chart.series[0].points;
    EXPECT_LE(points.size(), 500u);
    for (size_t i = 1; i < points.size(); ++i) {
      const auto at_most =
          std::count_if(values.begin(), values.end(), [&](double v) { return v <= points[i].x; });
      EXPECT_DOUBLE_EQ(points[i].y, static_cast<double>(at_most) / 3000);
    }
    EXPECT_DOUBLE_EQ(points.back().y, 1);
  }
}

TEST(HistogramTest, CountsEveryDrawableValueOnce) {
  const std::vector<double> values = {0, 1, 1.5, 9.99, 10, kNan, kInfinity};
  const Histogram histogram = HistogramOf({}, values, 5);
  EXPECT_THAT(histogram.edges, SizeIs(6));
  EXPECT_THAT(histogram.counts, ::testing::ElementsAre(3, 0, 0, 0, 2));
  const Histogram log = HistogramOf({.scale = Scale::kLog}, {0, 1, 10, 100}, 2);
  EXPECT_THAT(log.counts, ::testing::ElementsAre(1, 2)) << "0 has no place on a log axis";
}

}  // namespace
}  // namespace sluice
