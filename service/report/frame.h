// Frame: the rectangle of a plot with its two axes. Maps values to pixels and draws what is around
// and behind the data: grid, tick labels, axis titles, bands and reference lines.
#pragma once

#include <string>
#include <vector>

#include "service/report/axis_scale.h"
#include "service/report/chart.h"
#include "service/report/svg.h"

namespace sluice {

// Keeps labels apart: each that is placed keeps its box.
class LabelSpace {
 public:
  explicit LabelSpace(const Box& area) : area_(area) {}

  // True, and the box is taken, if it lies within the area and touches no other label.
  bool Take(const Box& box);

 private:
  Box area_;
  std::vector<Box> taken_;
};

class Frame {
 public:
  // A plot `plot_height` high whose outermost left edge (tick labels) is at `at.x`; `at.y` is the
  // top of the y title. `left` is the room for tick labels: see LabelRoom().
  Frame(AxisScale x, AxisScale y, double left, const Box& at, double plot_height);

  // Pixels the tick labels of a vertical axis need.
  static double LabelRoom(const AxisScale& y, double plot_height);

  const Box& plot() const { return plot_; }
  const AxisScale& x() const { return x_; }
  const AxisScale& y() const { return y_; }

  bool CanShow(const Point& p) const { return x_.CanShow(p.x) && y_.CanShow(p.y); }
  // Pixels, kept within a plot's width of the plot. REQUIRES: the value can be shown.
  double PixelX(double value) const;
  double PixelY(double value) const;

  // Grid, tick labels and titles. Without `x_labels` the x axis has grid lines only.
  void DrawAxes(Canvas& canvas, bool x_labels = true) const;
  // Parts of it, for axes that are not numeric.
  void DrawYAxis(Canvas& canvas) const;
  void DrawXTitle(Canvas& canvas) const;
  void DrawBands(Canvas& canvas, const std::vector<Band>& bands, LabelSpace& space) const;
  // Vertical and horizontal reference lines. A label without room is left out.
  void DrawLines(Canvas& canvas, const std::vector<ReferenceLine>& x_lines,
                 const std::vector<ReferenceLine>& y_lines, LabelSpace& space) const;

  // Below everything DrawAxes(canvas, true) draws.
  double bottom() const;

 private:
  void DrawXAxis(Canvas& canvas, bool labels) const;
  void DrawXLabel(Canvas& canvas, const ReferenceLine& line, LabelSpace& space) const;
  void DrawYLabel(Canvas& canvas, const ReferenceLine& line, LabelSpace& space) const;
  // True if the value lies on the plot.
  bool CrossesX(double value) const;
  bool CrossesY(double value) const;

  AxisScale x_;
  AxisScale y_;
  Box plot_;
  double outer_left_;
};

// "No data" in the middle of a box.
void DrawNoData(Canvas& canvas, const Box& box);

// The x axis's ticks, as many as fit side by side on `width` pixels.
std::vector<Tick> FittingTicks(const AxisScale& x, double width);

// Heights that suit a drawing of this width.
double PlotHeight(double width);

}  // namespace sluice
