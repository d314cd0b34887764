// `sluice plan --report` and `--plots`: the page, and its plots as files.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "service/cli/plan_result.h"
#include "service/report/report.h"

namespace sluice {

struct PlanPlot {
  std::string file;  // name without folder and ending
  ReportChart chart;
};
// The page's plots, in its order.
std::vector<PlanPlot> PlanPlots(const PlanResult& result);

// Writes each plot as DIRECTORY/name.svg. Returns UNAVAILABLE naming the path if it cannot be
// written.
absl::Status WritePlots(const std::string& directory, const PlanResult& result);

// `command` is what was typed, for the small print.
Report PlanReport(const PlanResult& result, const std::string& command);

}  // namespace sluice
