#include "service/report/draw.h"
#include "service/report/frame.h"
#include "service/report/legend.h"
#include "service/report/palette.h"
#include "service/report/series_path.h"

namespace sluice {

Drawing Draw(const LineChart& chart, double width) {
  Canvas canvas;
  Extent x_data(chart.x.scale), y_data(chart.y.scale);
  for (const Series& s : chart.series) {
    for (const Point& p : s.points) {
      if (!Drawable(p.x, chart.x.scale) || !Drawable(p.y, chart.y.scale)) continue;
      x_data.Add(p.x);
      y_data.Add(p.y);
    }
  }
  for (const ReferenceLine& line : chart.x_lines) x_data.Add(line.at);
  for (const ReferenceLine& line : chart.y_lines) y_data.Add(line.at);
  const std::vector<int> colors = AssignColors(chart.series);
  const double top = DrawLegend(canvas, LegendOf(chart.series, colors), {0, 0, width, 0});
  const double height = PlotHeight(width);
  const AxisScale y(chart.y, y_data);
  const Frame frame(AxisScale(chart.x, x_data), y, Frame::LabelRoom(y, height), {0, top, width, 0},
                    height);
  LabelSpace space(frame.plot());
  frame.DrawBands(canvas, chart.bands, space);
  frame.DrawAxes(canvas);
  canvas.BeginClip(frame.plot());
  for (size_t i = 0; i < chart.series.size(); ++i) {
    DrawSeries(canvas, frame, chart.series[i], colors[i]);
  }
  canvas.EndClip();
  frame.DrawLines(canvas, chart.x_lines, chart.y_lines, space);
  if (!HasData(frame, chart.series)) DrawNoData(canvas, frame.plot());
  return {frame.bottom(), canvas.body()};
}

}  // namespace sluice
