// One function per kind of chart; RenderSvg() (chart.h) wraps their drawings.
#pragma once

#include <string>

#include "service/report/chart.h"

namespace sluice {

struct Drawing {
  double height = 0;
  std::string body;  // SVG elements
};

// REQUIRES: width >= 200.
Drawing Draw(const LineChart& chart, double width);
Drawing Draw(const RegionMap& chart, double width);
Drawing Draw(const BarChart& chart, double width);
Drawing Draw(const ColumnChart& chart, double width);
Drawing Draw(const Histogram& chart, double width);
Drawing Draw(const LaneChart& chart, double width);
Drawing Draw(const GanttChart& chart, double width);

}  // namespace sluice
