#include <algorithm>

#include "service/report/draw.h"
#include "service/report/frame.h"
#include "service/report/legend.h"
#include "service/report/palette.h"
#include "service/report/series_path.h"

namespace sluice {
namespace {

constexpr double kBetweenLanes = 12;

double LaneHeight(double width) { return width >= 500 ? 120 : 100; }

Extent XData(const LaneChart& chart) {
  Extent data(chart.x.scale);
  for (const LaneChart::Lane& lane : chart.lanes) {
    for (const Series& s : lane.series) {
      for (const Point& p : s.points) data.Add(p.x);
    }
  }
  return data;
}

AxisScale YScale(const LaneChart::Lane& lane) {
  Extent data(lane.y.scale);
  for (const Series& s : lane.series) {
    for (const Point& p : s.points) data.Add(p.y);
  }
  for (const ReferenceLine& line : lane.y_lines) data.Add(line.at);
  return AxisScale(lane.y, data);
}

// Series of the same name have the same colour in every lane, and one legend entry.
struct Names {
  std::vector<Series> series;
  std::vector<int> colors;

  explicit Names(const LaneChart& chart) {
    for (const LaneChart::Lane& lane : chart.lanes) {
      for (const Series& s : lane.series) {
        if (Find(s.name) < series.size()) continue;
        series.push_back({.name = s.name, .mark = s.mark, .color = s.color, .dashed = s.dashed});
      }
    }
    colors = AssignColors(series);
  }
  size_t Find(const std::string& name) const {
    const auto at =
        std::find_if(series.begin(), series.end(), [&](const Series& s) { return s.name == name; });
    return static_cast<size_t>(at - series.begin());
  }
};

}  // namespace

Drawing Draw(const LaneChart& chart, double width) {
  Canvas canvas;
  const Names names(chart);
  double top = DrawLegend(canvas, LegendOf(names.series, names.colors), {0, 0, width, 0});
  const AxisScale x(chart.x, XData(chart));
  const double height = LaneHeight(width);
  double left = 0;
  for (const LaneChart::Lane& lane : chart.lanes) {
    left = std::max(left, Frame::LabelRoom(YScale(lane), height));
  }
  double bottom = top;
  for (size_t i = 0; i < chart.lanes.size(); ++i) {
    const LaneChart::Lane& lane = chart.lanes[i];
    const Frame frame(x, YScale(lane), left, {0, top, width, 0}, height);
    LabelSpace space(frame.plot());
    frame.DrawBands(canvas, chart.bands, space);
    frame.DrawAxes(canvas, i + 1 == chart.lanes.size());
    canvas.BeginClip(frame.plot());
    for (const Series& s : lane.series) {
      DrawSeries(canvas, frame, s, names.colors[names.Find(s.name)]);
    }
    canvas.EndClip();
    frame.DrawLines(canvas, {}, lane.y_lines, space);
    if (!HasData(frame, lane.series)) DrawNoData(canvas, frame.plot());
    top = frame.plot().bottom() + kBetweenLanes;
    bottom = frame.bottom();
  }
  return {bottom, canvas.body()};
}

}  // namespace sluice
