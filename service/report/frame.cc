#include "service/report/frame.h"

#include <algorithm>
#include <utility>

namespace sluice {
namespace {

constexpr double kLineHeight = 16;
constexpr double kTitleRoom = 25;  // y title above the plot
constexpr double kTickRoom = 18;   // x labels below it
constexpr double kRightRoom = 16;  // half of the last x label
constexpr double kPixelsPerYTick = 34;
constexpr double kLabelGap = 6;
constexpr double kBetweenLabels = 14;

int YTickLimit(double height) { return std::max(2, static_cast<int>(height / kPixelsPerYTick)); }

double Clamped(double pixel, double low, double high) {
  const double span = high - low;
  return std::clamp(pixel, low - span, high + span);
}

}  // namespace

bool LabelSpace::Take(const Box& box) {
  if (box.x < area_.x || box.y < area_.y || box.right() > area_.right() ||
      box.bottom() > area_.bottom()) {
    return false;
  }
  for (const Box& other : taken_) {
    if (box.Overlaps(other)) return false;
  }
  taken_.push_back(box);
  return true;
}

std::vector<Tick> FittingTicks(const AxisScale& x, double width) {
  for (int limit = 12; limit > 2; --limit) {
    std::vector<Tick> ticks = x.Ticks(limit);
    bool fits = !ticks.empty();
    double right = -1e9;
    for (const Tick& tick : ticks) {
      const double half = TextWidth(tick.label) / 2;
      const double center = x.Share(tick.value) * width;
      fits = fits && center - half >= right + kBetweenLabels;
      right = center + half;
    }
    if (fits) return ticks;
  }
  return x.Ticks(2);
}

double PlotHeight(double width) {
  if (width >= 1000) return 330;
  return width >= 500 ? 280 : 220;
}

double Frame::LabelRoom(const AxisScale& y, double plot_height) {
  double room = 0;
  for (const Tick& tick : y.Ticks(YTickLimit(plot_height))) {
    room = std::max(room, TextWidth(tick.label));
  }
  return room + kLabelGap;
}

Frame::Frame(AxisScale x, AxisScale y, double left, const Box& at, double plot_height)
    : x_(std::move(x)), y_(std::move(y)), outer_left_(at.x) {
  plot_ = {at.x + left, at.y + kTitleRoom, at.width - left - kRightRoom, plot_height};
}

double Frame::PixelX(double value) const {
  return Clamped(plot_.x + x_.Share(value) * plot_.width, plot_.x, plot_.right());
}

double Frame::PixelY(double value) const {
  return Clamped(plot_.bottom() - y_.Share(value) * plot_.height, plot_.y, plot_.bottom());
}

double Frame::bottom() const {
  return plot_.bottom() + kTickRoom + (x_.Title().empty() ? 0 : kLineHeight) + 4;
}

void Frame::DrawYAxis(Canvas& canvas) const {
  const double room = plot_.right() - outer_left_;
  canvas.Text(outer_left_, plot_.y - 12, Shortened(y_.Title(), room), "m");
  for (const Tick& tick : y_.Ticks(YTickLimit(plot_.height))) {
    const double y = PixelY(tick.value);
    canvas.Line(plot_.x, y, plot_.right(), y, "g");
    canvas.Text(plot_.x - kLabelGap, y + 4, tick.label, "m", Anchor::kEnd);
  }
}

void Frame::DrawXAxis(Canvas& canvas, bool labels) const {
  for (const Tick& tick : FittingTicks(x_, plot_.width)) {
    const double x = PixelX(tick.value);
    canvas.Line(x, plot_.y, x, plot_.bottom() + (labels ? 4 : 0), "g");
    if (!labels) continue;
    // The last label must not leave the drawing.
    const double inside = std::min(x, plot_.right() + kRightRoom - TextWidth(tick.label) / 2);
    canvas.Text(inside, plot_.bottom() + kTickRoom, tick.label, "m", Anchor::kMiddle);
  }
  canvas.Line(plot_.x, plot_.bottom(), plot_.right(), plot_.bottom(), "a");
  if (labels) DrawXTitle(canvas);
}

void Frame::DrawXTitle(Canvas& canvas) const {
  if (x_.Title().empty()) return;
  canvas.Text(plot_.x + plot_.width / 2, plot_.bottom() + kTickRoom + kLineHeight,
              Shortened(x_.Title(), plot_.width), "m", Anchor::kMiddle);
}

void Frame::DrawAxes(Canvas& canvas, bool x_labels) const {
  DrawYAxis(canvas);
  DrawXAxis(canvas, x_labels);
}

void Frame::DrawBands(Canvas& canvas, const std::vector<Band>& bands, LabelSpace& space) const {
  for (const Band& band : bands) {
    if (!x_.CanShow(band.from) || !x_.CanShow(band.to)) continue;
    const double from = std::max(PixelX(band.from), plot_.x);
    const double to = std::min(PixelX(band.to), plot_.right());
    if (to <= from) continue;
    canvas.Rect({from, plot_.y, to - from, plot_.height}, "band", band.label);
    const double width = TextWidth(band.label);
    if (band.label.empty() || width > to - from) continue;
    const double x = (from + to - width) / 2;
    for (int row = 0; row < 3; ++row) {
      const double y = plot_.y + 2 + kLineHeight * row;
      if (!space.Take({x, y, width, kLineHeight})) continue;
      canvas.Text((from + to) / 2, y + 12, band.label, "m", Anchor::kMiddle);
      break;
    }
  }
}

bool Frame::CrossesX(double value) const {
  if (!x_.CanShow(value)) return false;
  const double x = PixelX(value);
  return x >= plot_.x - 1 && x <= plot_.right() + 1;
}

bool Frame::CrossesY(double value) const {
  if (!y_.CanShow(value)) return false;
  const double y = PixelY(value);
  return y >= plot_.y - 1 && y <= plot_.bottom() + 1;
}

void Frame::DrawXLabel(Canvas& canvas, const ReferenceLine& line, LabelSpace& space) const {
  const double x = PixelX(line.at);
  const double width = TextWidth(line.label);
  const int rows = static_cast<int>(plot_.height / kLineHeight);
  for (int i = 0; i < 2 * rows; ++i) {
    // Right of the line, then left of it, then one row further down.
    const bool right = i % 2 == 0;
    const int row = i / 2;
    const Box box{right ? x + 4 : x - 4 - width, plot_.y + 2 + kLineHeight * row, width,
                  kLineHeight};
    if (!space.Take(box)) continue;
    canvas.Text(right ? box.x : box.right(), box.y + 12, line.label, "t o",
                right ? Anchor::kStart : Anchor::kEnd);
    return;
  }
}

void Frame::DrawYLabel(Canvas& canvas, const ReferenceLine& line, LabelSpace& space) const {
  const double y = PixelY(line.at);
  const double width = TextWidth(line.label);
  const double left = plot_.x + 4, right = plot_.right() - 4 - width;
  const double above = y - kLineHeight - 1, below = y + 2;
  for (const Box& box :
       {Box{right, above, width, kLineHeight}, Box{left, above, width, kLineHeight},
        Box{right, below, width, kLineHeight}, Box{left, below, width, kLineHeight}}) {
    if (!space.Take(box)) continue;
    canvas.Text(box.x, box.y + 12, line.label, "t o");
    return;
  }
}

// All lines, then all labels: no line runs through a label.
void Frame::DrawLines(Canvas& canvas, const std::vector<ReferenceLine>& x_lines,
                      const std::vector<ReferenceLine>& y_lines, LabelSpace& space) const {
  for (const ReferenceLine& line : x_lines) {
    if (!CrossesX(line.at)) continue;
    canvas.Line(PixelX(line.at), plot_.y, PixelX(line.at), plot_.bottom(), "r");
  }
  for (const ReferenceLine& line : y_lines) {
    if (!CrossesY(line.at)) continue;
    canvas.Line(plot_.x, PixelY(line.at), plot_.right(), PixelY(line.at), "r");
  }
  for (const ReferenceLine& line : x_lines) {
    if (CrossesX(line.at) && !line.label.empty()) DrawXLabel(canvas, line, space);
  }
  for (const ReferenceLine& line : y_lines) {
    if (CrossesY(line.at) && !line.label.empty()) DrawYLabel(canvas, line, space);
  }
}

void DrawNoData(Canvas& canvas, const Box& box) {
  canvas.Text(box.x + box.width / 2, box.y + box.height / 2, "no data", "m", Anchor::kMiddle);
}

}  // namespace sluice
