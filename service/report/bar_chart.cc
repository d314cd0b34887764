#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "service/report/axis_scale.h"
#include "service/report/draw.h"
#include "service/report/frame.h"
#include "service/report/legend.h"
#include "service/report/number_text.h"
#include "service/report/palette.h"
#include "service/report/svg.h"

namespace sluice {
namespace {

constexpr double kBarHeight = 18;
constexpr double kRow = 28;
constexpr double kLabelRow = 18;  // a label above its bar, on narrow drawings
constexpr double kGap = 8;
constexpr double kAxisRoom = 22;
constexpr double kRounding = 0.01;  // room computed as a difference may lack the last bit

// What is drawn of a part: not what is negative or not a number.
double Length(double part) { return Drawable(part, Scale::kLinear) ? std::max(0.0, part) : 0; }

double Sum(const BarChart::Bar& bar) {
  return std::accumulate(bar.parts.begin(), bar.parts.end(), 0.0,
                         [](double sum, double part) { return sum + Length(part); });
}

std::string ValueText(const Axis& axis, double value) {
  switch (axis.format) {
    case TickFormat::kSeconds:
      return FormatSeconds(value);
    case TickFormat::kPercent:
      return FormatPercent(value);
    case TickFormat::kBytes:
      return FormatBinaryBytes(value);
    case TickFormat::kNumber:
      break;
  }
  return absl::StrCat(FormatWithPrefix(value), axis.unit.empty() ? "" : " ", axis.unit);
}

std::string NoteOf(const BarChart& chart, const BarChart::Bar& bar) {
  return bar.note.empty() ? ValueText(chart.x, Sum(bar)) : bar.note;
}

class BarPainter {
 public:
  BarPainter(const BarChart& chart, const AxisScale& scale, double width)
      : chart_(chart), scale_(scale), above_(width < 440) {
    double notes = 0, labels = 0;
    for (const BarChart::Bar& bar : chart.bars) {
      notes = std::max(notes, TextWidth(NoteOf(chart, bar)));
      labels = std::max(labels, TextWidth(bar.label));
    }
    notes = std::min(notes, width * 0.5);
    label_room_ = above_ ? width : std::min(labels, width * 0.36);
    const double left = above_ ? 0 : label_room_ + kGap;
    plot_ = {left, 0, std::max(40.0, width - left - notes - kGap), 0};
    note_room_ = width - plot_.right() - kGap;
  }

  double RowHeight() const { return kRow + (above_ ? kLabelRow : 0); }

  void DrawGrid(Canvas& canvas, double top, double bottom) const {
    for (const Tick& tick : FittingTicks(scale_, plot_.width)) {
      const double x = plot_.x + scale_.Share(tick.value) * plot_.width;
      canvas.Line(x, top, x, bottom, "g");
      canvas.Text(x, bottom + 16, tick.label, "m",
                  tick.value == scale_.low() && above_ ? Anchor::kStart : Anchor::kMiddle);
    }
    canvas.Line(plot_.x, top, plot_.x, bottom, "a");
  }

  void DrawBar(Canvas& canvas, const BarChart::Bar& bar, double top) const {
    const std::string label = Shortened(bar.label, label_room_);
    if (above_) {
      canvas.Text(0, top + 13, label, "t");
      top += kLabelRow;
    } else {
      canvas.Text(plot_.x - kGap, top + kRow / 2 + 4, label, "t", Anchor::kEnd);
    }
    double x = plot_.x;
    for (size_t i = 0; i < bar.parts.size(); ++i) {
      const double length =
          std::min(scale_.Share(Length(bar.parts[i])) * plot_.width, plot_.right() - x);
      if (length <= 0) continue;
      const std::string name = i < chart_.parts.size() ? chart_.parts[i] : "";
      canvas.Rect({x, top + (kRow - kBarHeight) / 2, length, kBarHeight},
                  FillClass(ColorAt(chart_.colors, i)),
                  absl::StrCat(name, ": ", ValueText(chart_.x, bar.parts[i])));
      x += length;
    }
    canvas.Text(std::min(x, plot_.right()) + kGap, top + kRow / 2 + 4,
                Shortened(NoteOf(chart_, bar), note_room_ + kRounding), "m");
  }

 private:
  const BarChart& chart_;
  const AxisScale& scale_;
  bool above_;
  double label_room_ = 0;
  double note_room_ = 0;
  Box plot_;
};

}  // namespace

Drawing Draw(const BarChart& chart, double width) {
  Canvas canvas;
  Extent data(Scale::kLinear);
  for (const BarChart::Bar& bar : chart.bars) data.Add(Sum(bar));
  Axis axis = chart.x;
  axis.scale = Scale::kLinear;
  axis.min = 0;
  const AxisScale scale(axis, data);
  const double top = DrawLegend(canvas, LegendOf(chart.parts, chart.colors), {0, 0, width, 0});
  if (data.empty()) {
    DrawNoData(canvas, {0, top, width, kRow});
    return {top + kRow, canvas.body()};
  }
  const BarPainter painter(chart, scale, width);
  const double bottom = top + painter.RowHeight() * static_cast<double>(chart.bars.size());
  painter.DrawGrid(canvas, top, bottom);
  for (size_t i = 0; i < chart.bars.size(); ++i) {
    painter.DrawBar(canvas, chart.bars[i], top + painter.RowHeight() * static_cast<double>(i));
  }
  canvas.Text(width / 2, bottom + kAxisRoom + 12, scale.Title(), "m", Anchor::kMiddle);
  return {bottom + kAxisRoom + (scale.Title().empty() ? 0 : 18), canvas.body()};
}

}  // namespace sluice
