// ColumnChart and Histogram: rectangles that stand on the x axis.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "service/report/draw.h"
#include "service/report/frame.h"
#include "service/report/legend.h"
#include "service/report/number_text.h"
#include "service/report/palette.h"

namespace sluice {
namespace {

constexpr double kGroupShare = 0.8;  // of a place's width; the rest is the gap to the next

// A rectangle from the axis up to `value`.
void DrawColumn(Canvas& canvas, const Frame& frame, double from, double to, double value, int color,
                const std::string& title) {
  if (!frame.y().CanShow(value) || value <= frame.y().low()) return;
  const double y = std::max(frame.PixelY(value), frame.plot().y);
  canvas.Rect({from, y, to - from, frame.plot().bottom() - y}, FillClass(color), title);
}

// Names under the places; every n-th if they would touch.
void DrawPlaceNames(Canvas& canvas, const Frame& frame, const std::vector<std::string>& names) {
  const double place = frame.plot().width / static_cast<double>(names.size());
  double widest = 0;
  for (const std::string& name : names) widest = std::max(widest, TextWidth(name) + 6);
  const size_t stride = static_cast<size_t>(std::max(1.0, std::ceil(widest / place)));
  for (size_t i = 0; i < names.size(); i += stride) {
    canvas.Text(frame.plot().x + place * (static_cast<double>(i) + 0.5), frame.plot().bottom() + 16,
                Shortened(names[i], frame.plot().width), "m", Anchor::kMiddle);
  }
}

std::string ColumnTitle(const std::string& series, const std::string& label, double value) {
  return absl::StrCat(series, series.empty() ? "" : ", ", label, ": ", FormatSignificant(value, 4));
}

}  // namespace

Drawing Draw(const ColumnChart& chart, double width) {
  Canvas canvas;
  Extent data(chart.y.scale);
  std::vector<int> wanted;
  for (const ColumnChart::Columns& columns : chart.series) {
    wanted.push_back(columns.color);
    for (const double value : columns.values) data.Add(value);
  }
  const std::vector<int> colors = AssignColors(wanted);
  std::vector<std::string> names;
  for (const ColumnChart::Columns& columns : chart.series) names.push_back(columns.name);
  const double top = DrawLegend(canvas, LegendOf(names, colors), {0, 0, width, 0});
  const double height = PlotHeight(width);
  const AxisScale y(chart.y, data);
  // Places are numbered; their names replace the tick labels.
  const Axis places{.title = chart.x_title, .min = 0, .max = 1};
  const Frame frame(AxisScale(places, Extent(Scale::kLinear)), y, Frame::LabelRoom(y, height),
                    {0, top, width, 0}, height);
  frame.DrawYAxis(canvas);
  canvas.Line(frame.plot().x, frame.plot().bottom(), frame.plot().right(), frame.plot().bottom(),
              "a");
  if (data.empty() || chart.labels.empty()) {
    DrawNoData(canvas, frame.plot());
    return {frame.bottom(), canvas.body()};
  }
  const double place = frame.plot().width / static_cast<double>(chart.labels.size());
  const double column = place * kGroupShare / static_cast<double>(chart.series.size());
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const ColumnChart::Columns& columns = chart.series[s];
    for (size_t i = 0; i < std::min(columns.values.size(), chart.labels.size()); ++i) {
      const double x = frame.plot().x + place * (static_cast<double>(i) + (1 - kGroupShare) / 2) +
                       column * static_cast<double>(s);
      DrawColumn(canvas, frame, x, x + column, columns.values[i], colors[s],
                 ColumnTitle(columns.name, chart.labels[i], columns.values[i]));
    }
  }
  DrawPlaceNames(canvas, frame, chart.labels);
  frame.DrawXTitle(canvas);
  return {frame.bottom(), canvas.body()};
}

Drawing Draw(const Histogram& chart, double width) {
  SLUICE_CHECK(chart.edges.size() == chart.counts.size() + (chart.edges.empty() ? 0 : 1));
  Canvas canvas;
  Extent x_data(chart.x.scale), y_data(chart.y.scale);
  for (const double edge : chart.edges) x_data.Add(edge);
  for (const double count : chart.counts) y_data.Add(count);
  const double height = PlotHeight(width);
  const AxisScale y(chart.y, y_data);
  const Frame frame(AxisScale(chart.x, x_data), y, Frame::LabelRoom(y, height), {0, 0, width, 0},
                    height);
  frame.DrawAxes(canvas);
  canvas.BeginClip(frame.plot());
  for (size_t i = 0; i < chart.counts.size(); ++i) {
    if (!frame.x().CanShow(chart.edges[i]) || !frame.x().CanShow(chart.edges[i + 1])) continue;
    const double from = frame.PixelX(chart.edges[i]), to = frame.PixelX(chart.edges[i + 1]);
    // A hairline between neighbours.
    const double gap = to - from > 4 ? 1 : 0;
    DrawColumn(
        canvas, frame, from, to - gap, chart.counts[i], chart.color,
        absl::StrCat(FormatWithPrefix(chart.edges[i]), " – ", FormatWithPrefix(chart.edges[i + 1]),
                     ": ", FormatSignificant(chart.counts[i], 6)));
  }
  canvas.EndClip();
  LabelSpace space(frame.plot());
  frame.DrawLines(canvas, chart.x_lines, {}, space);
  if (y_data.empty() || x_data.empty()) DrawNoData(canvas, frame.plot());
  return {frame.bottom(), canvas.body()};
}

}  // namespace sluice
