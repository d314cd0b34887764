#include "service/cli/plan_report.h"

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/cli/plan_charts.h"
#include "service/cli/plan_text.h"
#include "service/cli/version.h"
#include "service/report/number_text.h"

namespace sluice {
namespace {

constexpr int kPlotWidth = 760;  // of a plot in a file of its own

std::string Number(double value) { return FormatSignificant(value, 3); }

void AddKeyFigures(const PlanResult& result, Report& report) {
  const PlanAnalysis& a = result.now.analysis;
  const bool single = result.requests.single;
  const std::string mean = single ? "" : "mean ";
  std::vector<KeyFigure> figures;
  figures.push_back({"κ_crit", Number(a.kappa_crit), "",
                     absl::StrCat("paper's formula; ", Number(a.kappa_crit_typical),
                                  " with attention and step floor")});
  if (single) {
    figures.push_back({"κ of the request", FormatWithPrefix(a.kappa.p50), "",
                       a.link_bound_by_slack > 0 ? "link-bound" : "device-bound"});
  } else {
    figures.push_back(
        {"link-bound", FormatSignificant(a.link_bound_by_slack * 100, 3), "%",
         absl::StrCat("of requests by slack; ", FormatPercent(a.link_bound_by_kappa, 3), " by κ")});
  }
  figures.push_back({"time in transfers", FormatSignificant(a.transfer_share * 100, 3), "%",
                     "of load and compute, before they overlap"});
  figures.push_back(
      {absl::StrCat(mean, "TTFT"), FormatSeconds(TtftOf(a, TtftKind::kBest).value()), "",
       absl::StrCat("best plan; ", FormatSeconds(TtftOf(a, TtftKind::kRecompute).value()),
                    " without offloading")});
  figures.push_back({"break-even link", Number(a.break_even_link.value() / 1e9), "GB/s",
                     "faster does not help the typical request"});
  figures.push_back(
      {"energy", Number(a.energy.total.value()), "J",
       absl::StrCat(mean, "to the first token; ", Number(a.energy_recompute.total.value()),
                    " without offloading")});
  report.AddFigures(figures);
}

std::string TypicalNote(const PlanResult& result) {
  const RequestShape& r = result.now.analysis.typical;
  return absl::StrCat(result.requests.single ? "For the request" : "For a request in the middle",
                      ": ", WithCommas(r.cached.value()), " cached + ", WithCommas(r.fresh.value()),
                      " new tokens.");
}

std::vector<PlanPlot> RequestPlots(const PlanResult& result) {
  std::vector<PlanPlot> plots;
  plots.push_back({"plan_regions",
                   {.title = "Which plan is fastest where",
                    .note = "Right of the solid line loading takes longer than computing. Blank: "
                            "longer than the context.",
                    .chart = RegionsChart(result)}});
  if (!result.requests.single) {
    plots.push_back({"kappa_cdf",
                     {.title = "κ of the requests",
                      .note = "By the paper's test, requests right of κ_crit are link-bound.",
                      .chart = KappaChart(result)}});
    plots.push_back({"slack",
                     {.title = "Slack",
                      .note = "Each dot is a request with something cached; below the line its "
                              "load takes longer than its computing.",
                      .chart = SlackChart(result)}});
  }
  plots.push_back({"time_split",
                   {.title = "Where the time goes",
                    .note = result.requests.single ? "By plan, on an idle machine."
                                                   : "Mean over the requests, on an idle machine.",
                    .chart = TimeSplitChart(result)}});
  return plots;
}

std::vector<PlanPlot> MachinePlots(const PlanResult& result) {
  std::vector<PlanPlot> plots;
  plots.push_back({"ttft_by_bandwidth",
                   {.title = "Time to first token against the link",
                    .note = absl::StrCat(TypicalNote(result),
                                         " Right of \"enough\", loading hides behind computing."),
                    .chart = BandwidthChart(result)}});
  plots.push_back({"roofline",
                   {.title = "Roofline of the link",
                    .note = "Left of the ridge the link sets the pace, right of it the device. "
                            "Below the roof: the least time of a step, and slower attention.",
                    .chart = RooflineChart(result)}});
  return plots;
}

std::vector<PlanPlot> WhatIfPlots(const PlanResult& result) {
  if (result.what_ifs.empty()) return {};
  return {{"what_if",
           {.title = "Time to first token with the best plan for each request",
            .chart = WhatIfChart(result),
            .wide = true}}};
}

void AddPlots(const std::string& section, const std::vector<PlanPlot>& plots, Report& report) {
  if (plots.empty()) return;
  report.AddSection(section);
  for (const PlanPlot& plot : plots) report.AddChart(plot.chart);
}

void AddTables(const PlanResult& result, Report& report) {
  if (!result.what_ifs.empty()) {
    report.AddTable({.columns = {{"change", false},
                                 {"κ_crit"},
                                 {"link-bound"},
                                 {"in transfers"},
                                 {"TTFT"},
                                 {"against now"},
                                 {"energy, J"},
                                 {"fit on the device"}},
                     .rows = WhatIfRows(result),
                     .note = WhatIfNote(result)});
  }
  report.AddSection("Figures");
  ReportTable plans{.title = "Plans",
                    .columns = {{"plan", false},
                                {result.requests.single ? "TTFT" : "mean TTFT"},
                                {result.requests.single ? "best" : "best for"},
                                {"against the best"}},
                    .rows = PlanRows(result.now.analysis),
                    .note =
                        "Already resident and load, then compute are references: an endless "
                        "device memory, and the paper's model."};
  plans.highlight = static_cast<int>(result.now.analysis.best_plan);
  report.AddTable(plans);
  ReportTable figures{.title = "All figures",
                      .columns = {{"", false}, {"value"}, {"meaning", false}}};
  for (const PlanFigure& figure : PlanFigures(result)) {
    figures.rows.push_back({figure.name, figure.value, figure.meaning});
  }
  report.AddTable(figures);
}

}  // namespace

std::vector<PlanPlot> PlanPlots(const PlanResult& result) {
  std::vector<PlanPlot> plots = RequestPlots(result);
  for (PlanPlot& plot : MachinePlots(result)) plots.push_back(std::move(plot));
  for (PlanPlot& plot : WhatIfPlots(result)) plots.push_back(std::move(plot));
  return plots;
}

absl::Status WritePlots(const std::string& directory, const PlanResult& result) {
  for (const PlanPlot& plot : PlanPlots(result)) {
    const std::string path = absl::StrCat(directory, "/", plot.file, ".svg");
    std::ofstream file(path, std::ios::binary);
    if (file << RenderSvgFile(plot.chart.chart, kPlotWidth, plot.chart.title) << std::flush)
      continue;
    return absl::UnavailableError(absl::StrCat(
        "--plots: ", path, ": cannot be written; the directory must exist and have space"));
  }
  return absl::OkStatus();
}

Report PlanReport(const PlanResult& result, const std::string& command) {
  const Deployment& d = result.now.scenario.deployment;
  Report report(DeploymentText(d), Recommendation(result));
  report.AddParagraph(
      absl::StrCat("Requests: ", result.requests.name, ". Machine: ", AssumptionsText(d), "."));
  AddKeyFigures(result, report);
  AddPlots("The requests", RequestPlots(result), report);
  AddPlots("The machine", MachinePlots(result), report);
  AddPlots("What if", WhatIfPlots(result), report);
  AddTables(result, report);
  report.AddFooter(command);
  report.AddFooter(absl::StrCat(
      "Sluice ", Version(),
      ". Times are of the cost model, for one request at a time on an idle machine; cached tokens "
      "are all off the device. κ after arXiv 2601.19910."));
  return report;
}

}  // namespace sluice
