#include "service/report/chart.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "service/report/draw.h"
#include "service/report/style.h"
#include "service/report/svg.h"

namespace sluice {
namespace {

constexpr int kLeastWidth = 200;
constexpr double kFilePadding = 16;
constexpr double kFileTitle = 26;

Drawing DrawAny(const Chart& chart, double width) {
  return std::visit([&](const auto& c) { return Draw(c, width); }, chart);
}

}  // namespace

std::string RenderSvg(const Chart& chart, int width, const std::string& label) {
  SLUICE_CHECK(width >= kLeastWidth);
  const Drawing drawing = DrawAny(chart, width);
  const std::string height = Px(std::ceil(drawing.height));
  return absl::StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"",
                      EscapeXml(label), "\" width=\"", width, "\" height=\"", height,
                      "\" viewBox=\"0 0 ", width, " ", height, "\">\n", drawing.body, "</svg>\n");
}

std::string RenderSvgFile(const Chart& chart, int width, const std::string& title) {
  SLUICE_CHECK(width >= kLeastWidth + 2 * kFilePadding);
  const double inner = width - 2 * kFilePadding;
  const Drawing drawing = DrawAny(chart, inner);
  const double top = kFilePadding + (title.empty() ? 0 : kFileTitle);
  const std::string height = Px(std::ceil(top + drawing.height + kFilePadding));
  Canvas canvas;
  canvas.Rect({0, 0, static_cast<double>(width), std::ceil(top + drawing.height + kFilePadding)},
              "card");
  if (!title.empty()) canvas.Text(kFilePadding, kFilePadding + 12, title, "t title");
  return absl::StrCat("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
                      "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"",
                      EscapeXml(title), "\" width=\"", width, "\" height=\"", height,
                      "\" viewBox=\"0 0 ", width, " ", height, "\">\n<style>", PaletteCss("svg"),
                      ChartCss(),
                      ".card{fill:var(--card)}svg .title{font-size:15px;font-weight:600}</style>\n",
                      canvas.body(), "<g transform=\"translate(", Px(kFilePadding), " ", Px(top),
                      ")\">\n", drawing.body, "</g>\n</svg>\n");
}

}  // namespace sluice
