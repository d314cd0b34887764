#include "service/report/legend.h"

#include "absl/strings/str_cat.h"
#include "service/report/palette.h"

namespace sluice {
namespace {

constexpr double kRow = 18;
constexpr double kSample = 16;
constexpr double kGap = 6;       // sample to name
constexpr double kBetween = 14;  // name to next sample
constexpr double kBaseline = 12;
constexpr double kMiddle = 8;
constexpr double kBelow = 4;

void DrawSample(Canvas& canvas, const LegendItem& item, double x, double y) {
  switch (item.sample) {
    case LegendItem::Sample::kLine:
      canvas.Line(x, y + kMiddle, x + kSample, y + kMiddle,
                  absl::StrCat("l ", StrokeClass(item.color, item.dashed)));
      return;
    case LegendItem::Sample::kBox:
      canvas.Rect({x + 2, y + 2, 12, 12}, FillClass(item.color));
      return;
    case LegendItem::Sample::kDot:
      canvas.Path(absl::StrCat("M", Px(x + kMiddle), " ", Px(y + kMiddle), "h0"),
                  absl::StrCat("p ", StrokeClass(item.color, false)));
      return;
  }
}

}  // namespace

std::vector<LegendItem> LegendOf(const std::vector<Series>& series,
                                 const std::vector<int>& colors) {
  std::vector<LegendItem> items;
  for (size_t i = 0; i < series.size(); ++i) {
    if (series[i].name.empty()) continue;
    LegendItem item{series[i].name, colors[i], LegendItem::Sample::kLine, series[i].dashed};
    if (series[i].mark == Mark::kPoints) item.sample = LegendItem::Sample::kDot;
    if (series[i].mark == Mark::kArea) item.sample = LegendItem::Sample::kBox;
    items.push_back(item);
  }
  return items;
}

std::vector<LegendItem> LegendOf(const std::vector<std::string>& names,
                                 const std::vector<int>& colors) {
  std::vector<LegendItem> items;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) continue;
    items.push_back({names[i], ColorAt(colors, i), LegendItem::Sample::kBox, false});
  }
  return items;
}

double DrawLegend(Canvas& canvas, const std::vector<LegendItem>& items, const Box& box) {
  if (items.empty()) return box.y;
  double x = box.x;
  double y = box.y;
  for (const LegendItem& item : items) {
    const std::string name = Shortened(item.name, box.width - kSample - kGap);
    const double width = kSample + kGap + TextWidth(name);
    if (x > box.x && x + width > box.right()) {
      x = box.x;
      y += kRow;
    }
    DrawSample(canvas, item, x, y);
    canvas.Text(x + kSample + kGap, y + kBaseline, name, "t");
    x += width + kBetween;
  }
  return y + kRow + kBelow;
}

}  // namespace sluice
