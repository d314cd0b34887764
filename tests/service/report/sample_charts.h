// One realistic chart of every kind, and a page with all of them.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "service/report/report.h"

namespace sluice::testing {

struct NamedChart {
  std::string name;
  Chart chart;
};
inline void PrintTo(const NamedChart& chart, std::ostream* os) { *os << chart.name; }

std::vector<NamedChart> SampleCharts();

Report SampleReport();

}  // namespace sluice::testing
