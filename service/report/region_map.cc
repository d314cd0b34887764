#include <algorithm>
#include <cmath>
#include <queue>
#include <set>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "service/report/draw.h"
#include "service/report/frame.h"
#include "service/report/legend.h"
#include "service/report/palette.h"
#include "service/report/series_path.h"

namespace sluice {
namespace {

constexpr int kNone = -1;

// The cells with their pixels. Rows count from the smallest y.
class Cells {
 public:
  Cells(const RegionMap& chart, const Frame& frame) : chart_(chart) {
    for (const double x : chart.x_edges) xs_.push_back(frame.PixelX(x));
    for (const double y : chart.y_edges) ys_.push_back(frame.PixelY(y));
  }

  size_t columns() const { return xs_.size() - 1; }
  size_t rows() const { return ys_.size() - 1; }
  int At(size_t row, size_t column) const {
    const int cell = chart_.cells[row * columns() + column];
    return cell >= 0 && static_cast<size_t>(cell) < chart_.categories.size() ? cell : kNone;
  }
  Box Pixels(size_t row, size_t first, size_t last) const {
    return {xs_[first], ys_[row + 1], xs_[last + 1] - xs_[first], ys_[row] - ys_[row + 1]};
  }

  // Draws runs of equal cells in a row as one rectangle.
  void Draw(Canvas& canvas) const {
    for (size_t row = 0; row < rows(); ++row) {
      for (size_t first = 0; first < columns();) {
        size_t last = first;
        while (last + 1 < columns() && At(row, last + 1) == At(row, first)) ++last;
        const int cell = At(row, first);
        if (cell != kNone) {
          canvas.Rect(
              Pixels(row, first, last),
              absl::StrCat("cell ", FillClass(ColorAt(chart_.colors, static_cast<size_t>(cell)))));
        }
        first = last + 1;
      }
    }
  }

  // The widest run of `category`, preferring rows in the middle of the region: where its name goes.
  // Zero width if there is none.
  Box LabelPlace(int category) const {
    Box best;
    double best_score = 0;
    for (size_t row = 0; row < rows(); ++row) {
      for (size_t first = 0; first < columns(); ++first) {
        if (At(row, first) != category) continue;
        size_t last = first;
        while (last + 1 < columns() && At(row, last + 1) == category) ++last;
        const Box box = Pixels(row, first, last);
        const double score = box.width * std::sqrt(1.0 + HeightAround(row, (first + last) / 2));
        if (score > best_score) {
          best = box;
          best_score = score;
        }
        first = last;
      }
    }
    return best;
  }

 private:
  // Rows of the same category on the side (above, below) that has fewer.
  double HeightAround(size_t row, size_t column) const {
    size_t above = 0, below = 0;
    while (row + above + 1 < rows() && At(row + above + 1, column) == At(row, column)) ++above;
    while (below < row && At(row - below - 1, column) == At(row, column)) ++below;
    return static_cast<double>(std::min(above, below));
  }

  const RegionMap& chart_;
  std::vector<double> xs_, ys_;
};

void CheckShape(const RegionMap& chart) {
  const size_t columns = chart.x_edges.empty() ? 0 : chart.x_edges.size() - 1;
  const size_t rows = chart.y_edges.empty() ? 0 : chart.y_edges.size() - 1;
  SLUICE_CHECK(chart.cells.size() == rows * columns);
}

bool Drawable(const RegionMap& chart) {
  const auto shown = [](const std::vector<double>& edges, Scale scale) {
    return edges.size() > 1 && std::is_sorted(edges.begin(), edges.end()) &&
           std::all_of(edges.begin(), edges.end(),
                       [&](double edge) { return sluice::Drawable(edge, scale); });
  };
  return shown(chart.x_edges, chart.x.scale) && shown(chart.y_edges, chart.y.scale);
}

void DrawNames(Canvas& canvas, const RegionMap& chart, const Cells& cells, LabelSpace& space) {
  for (size_t i = 0; i < chart.categories.size(); ++i) {
    const Box place = cells.LabelPlace(static_cast<int>(i));
    const double width = TextWidth(chart.categories[i]);
    const double x = place.x + place.width / 2, y = place.y + place.height / 2;
    if (width + 8 > place.width || !space.Take({x - width / 2, y - 9, width, 18})) continue;
    canvas.Text(x, y + 4, chart.categories[i], "t o", Anchor::kMiddle);
  }
}

}  // namespace

Drawing Draw(const RegionMap& chart, double width) {
  CheckShape(chart);
  Canvas canvas;
  const bool drawable = Drawable(chart);
  Extent x_data(chart.x.scale), y_data(chart.y.scale);
  Axis x_axis = chart.x, y_axis = chart.y;
  if (drawable) {
    // The cells fill the plot.
    x_axis.min = chart.x_edges.front();
    x_axis.max = chart.x_edges.back();
    y_axis.min = chart.y_edges.front();
    y_axis.max = chart.y_edges.back();
  }
  const std::vector<int> overlay_colors = AssignColors(chart.overlays);
  std::vector<LegendItem> legend = LegendOf(chart.categories, chart.colors);
  for (LegendItem& item : LegendOf(chart.overlays, overlay_colors)) legend.push_back(item);
  const double top = DrawLegend(canvas, legend, {0, 0, width, 0});
  const double height = PlotHeight(width);
  const AxisScale y(y_axis, y_data);
  const Frame frame(AxisScale(x_axis, x_data), y, Frame::LabelRoom(y, height), {0, top, width, 0},
                    height);
  if (!drawable) {
    DrawNoData(canvas, frame.plot());
    return {frame.bottom(), canvas.body()};
  }
  const Cells cells(chart, frame);
  cells.Draw(canvas);
  frame.DrawAxes(canvas);
  canvas.BeginClip(frame.plot());
  for (size_t i = 0; i < chart.overlays.size(); ++i) {
    DrawSeries(canvas, frame, chart.overlays[i], overlay_colors[i]);
  }
  canvas.EndClip();
  LabelSpace space(frame.plot());
  DrawNames(canvas, chart, cells, space);
  return {frame.bottom(), canvas.body()};
}

}  // namespace sluice
