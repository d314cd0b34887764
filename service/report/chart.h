// Charts as values: what is to be seen, not how it is drawn. RenderSvg() draws one as inline SVG
// without scripts, ids or outside references; report.h puts several on a page.
//
//   LineChart chart{.x = {.title = "link", .unit = "GB/s", .scale = Scale::kLog},
//                   .y = {.title = "TTFT", .scale = Scale::kLog, .format = TickFormat::kSeconds}};
//   chart.series.push_back({.name = "overlapped", .points = {{8, 2.5}, {64, 0.4}}});
//   chart.x_lines.push_back({.at = 55, .label = "PCIe 5"});
//
// Members can be set by name, in order ("{.title = …, .scale = …}").
// Numbers that are not finite, and numbers <= 0 on a log axis, are left out (a line breaks there).
// A chart without any number that can be drawn says "no data". The same chart gives the same bytes.
//
// Values; thread-compatible.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace sluice {

enum class Scale { kLinear, kLog };

// How the numbers of an axis are written.
enum class TickFormat {
  kNumber,   // 0.5, 20, 3k, 1.2M (decimal prefixes)
  kSeconds,  // 20 µs, 5 ms, 1.5 s, 3 min, 2 h
  kPercent,  // of a share: 0.25 is 25 %
  kBytes,    // 512 B, 4 KiB, 1.5 GiB
};

struct Axis {
  std::string title = {};  // "new tokens"; with the unit in brackets behind it
  std::string unit = {};   // "GB/s"; empty for a count, and for formats that write their own
  Scale scale = Scale::kLinear;
  TickFormat format = TickFormat::kNumber;
  // Ends of the axis; taken from the data if unset. Linear axes of data >= 0 then begin at 0.
  std::optional<double> min = {};
  std::optional<double> max = {};
};

struct Point {
  double x = 0;
  double y = 0;
};

enum class Mark {
  kLine,    // straight between points
  kStep,    // constant from a point to the next
  kArea,    // a line, filled down to the axis
  kPoints,  // dots only
};

// Colours are slots of a colour-blind-safe palette, not values: the page picks them for light and
// dark. Slots beyond the palette repeat its colours with another dash. kAuto: the next free slot.
inline constexpr int kAutoColor = -1;
inline constexpr int kPaletteSize = 8;

struct Series {
  std::string name = {};  // in the legend; empty: not there
  std::vector<Point> points = {};
  Mark mark = Mark::kLine;
  int color = kAutoColor;
  bool dashed = false;
};

// A line across the whole plot, to compare with.
struct ReferenceLine {
  double at = 0;
  std::string label = {};
};

// A band [from, to] of the x axis behind the data.
struct Band {
  double from = 0;
  double to = 0;
  std::string label = {};
};

// Lines, steps, areas and scatter over two numeric axes.
struct LineChart {
  Axis x = {};
  Axis y = {};
  std::vector<Series> series = {};
  std::vector<ReferenceLine> x_lines = {};  // vertical
  std::vector<ReferenceLine> y_lines = {};  // horizontal
  std::vector<Band> bands = {};
};

// A plane cut into cells of named categories ("which plan wins where"), with lines and points on
// top. Neighbouring cells of one category look like one region; the largest get their name.
struct RegionMap {
  Axis x = {};
  Axis y = {};
  std::vector<double> x_edges = {};          // ascending; one more than columns
  std::vector<double> y_edges = {};          // ascending; one more than rows
  std::vector<int> cells = {};               // row by row from the smallest y; -1: none
  std::vector<std::string> categories = {};  // names by cell value
  std::vector<int> colors = {};              // palette slot by cell value; empty: 0, 1, 2 …
  std::vector<Series> overlays = {};
};

// Horizontal bars, each a sum of parts ("where the time went").
struct BarChart {
  struct Bar {
    std::string label = {};
    std::vector<double> parts = {};  // by part; missing ones are 0, negative ones are left out
    std::string note = {};           // behind the bar; empty: its sum
  };
  Axis x = {};                          // of the sums; `scale` must be linear
  std::vector<std::string> parts = {};  // names
  std::vector<int> colors = {};         // palette slot by part; empty: 0, 1, 2 …
  std::vector<Bar> bars = {};
};

// Columns over named places ("mean TTFT by κ bucket"), one per series side by side.
struct ColumnChart {
  struct Columns {
    std::string name = {};
    std::vector<double> values = {};  // by label
    int color = kAutoColor;
  };
  std::string x_title = {};
  std::vector<std::string> labels = {};
  Axis y = {};
  std::vector<Columns> series = {};
};

// Counts over intervals of a numeric axis.
struct Histogram {
  Axis x = {};
  Axis y = {};
  std::vector<double> edges = {};   // ascending; one more than counts
  std::vector<double> counts = {};  // >= 0
  std::vector<ReferenceLine> x_lines = {};
  int color = 0;
};

// Several plots above each other over one x axis, usually time.
struct LaneChart {
  struct Lane {
    Axis y = {};
    std::vector<Series> series = {};
    std::vector<ReferenceLine> y_lines = {};
  };
  Axis x = {};
  std::vector<Lane> lanes = {};
  std::vector<Band> bands = {};
};

// Who used what when: one row per resource or request, rectangles coloured by kind. Thousands are
// fine: neighbours of one kind that would be drawn on the same pixels become one.
struct GanttChart {
  struct Span {
    int row = 0;  // index into rows
    double from = 0;
    double to = 0;
    int kind = 0;            // index into kinds
    std::string title = {};  // shown on hover; spans with one are never joined
  };
  Axis x = {};
  std::vector<std::string> rows = {};
  std::vector<std::string> kinds = {};
  std::vector<int> colors = {};  // palette slot by kind; empty: 0, 1, 2 …
  std::vector<Span> spans = {};
};

using Chart =
    std::variant<LineChart, RegionMap, BarChart, ColumnChart, Histogram, LaneChart, GanttChart>;

// Values with a name, of which a distribution is drawn.
struct NamedValues {
  std::string name = {};
  std::vector<double> values = {};
};

// Share of values <= x, one stepped line each, thinned to what can be seen. `x.scale` counts.
LineChart CdfChart(Axis x, const std::vector<NamedValues>& samples);

// Counts in `bins` equal intervals of the axis (equal ratios on a log axis). Values that cannot be
// drawn are not counted. REQUIRES: bins >= 1.
Histogram HistogramOf(Axis x, const std::vector<double>& values, int bins);

// The size of a drawing in CSS pixels; the height follows from the chart.
inline constexpr int kNarrowWidth = 360;  // a phone
inline constexpr int kHalfWidth = 560;    // two beside each other on a desktop
inline constexpr int kFullWidth = 1140;

// An <svg> element `width` wide. Colours come from the page's style (report.h); `label` is what a
// screen reader says. REQUIRES: width >= 200.
std::string RenderSvg(const Chart& chart, int width, const std::string& label);

// A whole .svg file with its own light and dark style, for READMEs. `title` is drawn above.
std::string RenderSvgFile(const Chart& chart, int width, const std::string& title);

}  // namespace sluice
