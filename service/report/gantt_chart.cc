#include <algorithm>

#include "absl/strings/str_cat.h"
#include "service/report/axis_scale.h"
#include "service/report/draw.h"
#include "service/report/frame.h"
#include "service/report/legend.h"
#include "service/report/palette.h"

namespace sluice {
namespace {

constexpr double kGap = 8;
constexpr double kThinnest = 0.4;  // pixels a span has at least
constexpr double kRightRoom = 14;

// With many rows they get lower.
double RowHeight(size_t rows) {
  if (rows > 60) return 9;
  return rows > 24 ? 14 : 22;
}

bool Shown(const GanttChart& chart, const GanttChart::Span& span) {
  return span.row >= 0 && static_cast<size_t>(span.row) < chart.rows.size() && span.kind >= 0 &&
         static_cast<size_t>(span.kind) < chart.kinds.size() && span.from <= span.to &&
         Drawable(span.from, chart.x.scale) && Drawable(span.to, chart.x.scale);
}

// By row, then time. Spans that cannot be drawn are left out.
std::vector<GanttChart::Span> Ordered(const GanttChart& chart) {
  std::vector<GanttChart::Span> spans;
  for (const GanttChart::Span& span : chart.spans) {
    if (Shown(chart, span)) spans.push_back(span);
  }
  std::stable_sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) {
    return a.row != b.row ? a.row < b.row : a.from < b.from;
  });
  return spans;
}

class SpanPainter {
 public:
  SpanPainter(const GanttChart& chart, const AxisScale& scale, const Box& plot)
      : chart_(chart), scale_(scale), plot_(plot), row_(RowHeight(chart.rows.size())) {}

  // Draws the spans; those of a row and kind that would touch become one.
  void Draw(Canvas& canvas, const std::vector<GanttChart::Span>& spans) {
    Box open;
    const GanttChart::Span* first = nullptr;
    const auto flush = [&] {
      if (first == nullptr) return;
      canvas.Rect(open, FillClass(ColorAt(chart_.colors, static_cast<size_t>(first->kind))),
                  first->title);
    };
    for (const GanttChart::Span& span : spans) {
      const Box box = Pixels(span);
      if (box.right() < plot_.x || box.x > plot_.right()) continue;
      const bool joins = first != nullptr && first->row == span.row && first->kind == span.kind &&
                         first->title.empty() && span.title.empty() &&
                         box.x <= open.right() + kThinnest;
      if (joins) {
        open.width = std::max(open.right(), box.right()) - open.x;
        continue;
      }
      flush();
      open = box;
      first = &span;
    }
    flush();
  }

 private:
  Box Pixels(const GanttChart::Span& span) const {
    const double from = plot_.x + scale_.Share(span.from) * plot_.width;
    const double to = plot_.x + scale_.Share(span.to) * plot_.width;
    return {from, plot_.y + row_ * span.row + row_ * 0.1, std::max(kThinnest, to - from),
            row_ * 0.8};
  }

  const GanttChart& chart_;
  const AxisScale& scale_;
  Box plot_;
  double row_;
};

void DrawGrid(Canvas& canvas, const GanttChart& chart, const AxisScale& scale, const Box& plot) {
  for (const Tick& tick : FittingTicks(scale, plot.width)) {
    const double x = plot.x + scale.Share(tick.value) * plot.width;
    canvas.Line(x, plot.y, x, plot.bottom() + 4, "g");
    const double inside = std::min(x, plot.right() + kRightRoom - TextWidth(tick.label) / 2);
    canvas.Text(inside, plot.bottom() + 18, tick.label, "m", Anchor::kMiddle);
  }
  const double row = RowHeight(chart.rows.size());
  // Names of low rows would touch.
  const size_t stride = row < 12 ? 2 : 1;
  for (size_t i = 0; i < chart.rows.size(); i += stride) {
    canvas.Text(plot.x - kGap, plot.y + row * (static_cast<double>(i) + 0.5) + 4,
                Shortened(chart.rows[i], plot.x - kGap), "m", Anchor::kEnd);
  }
  canvas.Line(plot.x, plot.bottom(), plot.right(), plot.bottom(), "a");
  canvas.Text(plot.x + plot.width / 2, plot.bottom() + 34, scale.Title(), "m", Anchor::kMiddle);
}

}  // namespace

Drawing Draw(const GanttChart& chart, double width) {
  Canvas canvas;
  const double top = DrawLegend(canvas, LegendOf(chart.kinds, chart.colors), {0, 0, width, 0});
  const std::vector<GanttChart::Span> spans = Ordered(chart);
  Extent data(chart.x.scale);
  for (const GanttChart::Span& span : spans) {
    data.Add(span.from);
    data.Add(span.to);
  }
  if (data.empty()) {
    DrawNoData(canvas, {0, top, width, 40});
    return {top + 40, canvas.body()};
  }
  // A window need not begin at 0.
  Axis axis = chart.x;
  if (!axis.min.has_value()) axis.min = data.low();
  if (!axis.max.has_value()) axis.max = data.high();
  const AxisScale scale(axis, data);
  double names = 0;
  for (const std::string& name : chart.rows) names = std::max(names, TextWidth(name));
  const double left = std::min(names, width * 0.3) + kGap;
  const double height = RowHeight(chart.rows.size()) * static_cast<double>(chart.rows.size());
  const Box plot{left, top, width - left - kRightRoom, height};
  DrawGrid(canvas, chart, scale, plot);
  canvas.BeginClip(plot);
  SpanPainter(chart, scale, plot).Draw(canvas, spans);
  canvas.EndClip();
  return {plot.bottom() + 22 + (scale.Title().empty() ? 0 : 18), canvas.body()};
}

}  // namespace sluice
