// Legend: names with a sample of how they are drawn, in rows.
#pragma once

#include <string>
#include <vector>

#include "service/report/chart.h"
#include "service/report/svg.h"

namespace sluice {

struct LegendItem {
  enum class Sample { kLine, kBox, kDot };
  std::string name;
  int color = 0;
  Sample sample = Sample::kLine;
  bool dashed = false;
};

// One item per named series. REQUIRES: as many colours as series.
std::vector<LegendItem> LegendOf(const std::vector<Series>& series, const std::vector<int>& colors);
// One box per name.
std::vector<LegendItem> LegendOf(const std::vector<std::string>& names,
                                 const std::vector<int>& colors);

// Draws the items from (`box.x`, `box.y`), as many in a row as `box.width` allows, and returns the
// y below the last row; `box.y` if there are none. Names longer than the width are shortened.
double DrawLegend(Canvas& canvas, const std::vector<LegendItem>& items, const Box& box);

}  // namespace sluice
