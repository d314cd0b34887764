// A comparison as a page: who was fastest, how the links and the device were used, who waited.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "service/simulation/comparison.h"
#include "service/simulation/window_chart.h"

namespace sluice {
namespace {

// Charts of one contender each are drawn for the first ones only.
constexpr size_t kMostDetailed = 3;

std::string Time(double seconds) {
  if (!std::isfinite(seconds)) return "none";
  if (seconds < 1e-3) return absl::StrFormat("%.0f µs", seconds * 1e6);
  if (seconds < 1) return absl::StrFormat("%.1f ms", seconds * 1e3);
  return seconds < 100 ? absl::StrFormat("%.2f s", seconds) : absl::StrFormat("%.0f s", seconds);
}

std::string Share(double part, double whole) {
  return whole > 0 ? absl::StrFormat("%.0f %%", 100 * part / whole) : "-";
}

// Of the policies; of the references if there is nothing else.
const Comparison::Entry& Fastest(const Comparison& comparison) {
  return *std::min_element(comparison.entries.begin(), comparison.entries.end(),
                           [](const Comparison::Entry& a, const Comparison::Entry& b) {
                             const bool reference_a = a.contender.mode != Contender::Mode::kPolicy;
                             const bool reference_b = b.contender.mode != Contender::Mode::kPolicy;
                             if (reference_a != reference_b) return reference_b;
                             return a.summary.ttft_s.mean < b.summary.ttft_s.mean;
                           });
}

std::string Verdict(const Comparison& comparison) {
  const Comparison::Entry& best = Fastest(comparison);
  return absl::StrCat(comparison.workload, " on ", comparison.machine,
                      ". Lowest mean time to first ", "token: ", best.contender.label, " with ",
                      Time(best.summary.ttft_s.mean), ".");
}

ReportTable ResultTable(const Comparison& comparison) {
  ReportTable table;
  table.title = "Results";
  for (const char* title :
       {"done", "refused", "TTFT mean", "p50", "p99", "slowdown", "ITL p99", "makespan", "of bound",
        "link busy", "device busy", "exposed", "longest wait", "Jain", "kJ"}) {
    table.columns.push_back({title, true});
  }
  table.columns.insert(table.columns.begin(), {"policy", false});
  for (const Comparison::Entry& entry : comparison.entries) {
    const Summary& s = entry.summary;
    table.rows.push_back(
        {entry.contender.label, absl::StrCat(s.completed), absl::StrCat(s.rejected),
         Time(s.ttft_s.mean), Time(s.ttft_s.p50), Time(s.ttft_s.p99),
         absl::StrFormat("%.1f x", s.slowdown.mean), Time(s.itl_s.p99), Time(s.makespan_s),
         Share(s.makespan_s, s.bound_s), Share(s.link_busy_s[0], s.makespan_s),
         Share(s.device_busy_s, s.makespan_s), Time(s.exposed_link_s), Time(s.max_wait_s),
         absl::StrFormat("%.3f", s.fairness.jain), absl::StrFormat("%.1f", s.energy_j / 1e3)});
  }
  table.highlight = static_cast<int>(&Fastest(comparison) - comparison.entries.data());
  table.note =
      "Bound: the larger of all link work and all compute work, after the best split between "
      "loading and computing again. Exposed: time the device waited for a load.";
  return table;
}

ReportChart TtftChart(const Comparison& comparison) {
  std::vector<NamedValues> samples;
  for (const Comparison::Entry& entry : comparison.entries) {
    samples.push_back({entry.contender.label, TtftsOf(entry.result)});
  }
  Axis axis{.title = "time to first token", .scale = Scale::kLog, .format = TickFormat::kSeconds};
  return {"Time to first token", "Share of requests that had their first token within this time.",
          CdfChart(axis, samples), true};
}

ReportChart KappaChart(const Comparison& comparison, bool slowdown) {
  ColumnChart chart;
  chart.x_title = "κ: tokens loaded per token computed";
  chart.y = slowdown ? Axis{.title = "mean slowdown", .scale = Scale::kLog}
                     : Axis{.title = "mean time to first token",
                            .scale = Scale::kLog,
                            .format = TickFormat::kSeconds};
  for (const KappaBucket& bucket : comparison.entries.front().summary.kappa) {
    chart.labels.emplace_back(bucket.label);
  }
  for (const Comparison::Entry& entry : comparison.entries) {
    ColumnChart::Columns columns;
    columns.name = entry.contender.label;
    for (const KappaBucket& bucket : entry.summary.kappa) {
      columns.values.push_back(slowdown ? bucket.slowdown.mean : bucket.ttft_s.mean);
    }
    chart.series.push_back(std::move(columns));
  }
  return {slowdown ? "Slowdown by κ" : "Time to first token by κ",
          slowdown ? "Over the time on an idle machine, with everything cached as it was." : "",
          std::move(chart), false};
}

// Use of one resource between samples, as a share of time.
Series UseOf(const std::vector<UsageSample>& usage, const std::string& name,
             double (*total)(const UsageSample&)) {
  Series series{.name = name, .mark = Mark::kStep};
  for (size_t i = 1; i < usage.size(); ++i) {
    const double passed = usage[i].at - usage[i - 1].at;
    if (passed <= 0) continue;
    series.points.push_back({usage[i - 1].at, (total(usage[i]) - total(usage[i - 1])) / passed});
  }
  return series;
}

Series CountOf(const std::vector<UsageSample>& usage, const std::string& name,
               int64_t UsageSample::*member) {
  Series series{.name = name, .mark = Mark::kStep};
  for (const UsageSample& sample : usage) {
    series.points.push_back({sample.at, static_cast<double>(sample.*member)});
  }
  return series;
}

ReportChart UsageChart(const Comparison::Entry& entry) {
  const std::vector<UsageSample>& usage = entry.result.usage;
  const Axis share{.title = "busy", .format = TickFormat::kPercent, .min = 0, .max = 1};
  LaneChart chart;
  chart.x = {.title = "time", .format = TickFormat::kSeconds};
  chart.lanes.push_back(
      {share, {UseOf(usage, "device", [](const UsageSample& s) { return s.compute_s; })}, {}});
  chart.lanes.push_back(
      {share,
       {UseOf(usage, "link to the device", [](const UsageSample& s) { return s.link_s[0]; }),
        UseOf(usage, "link to the host", [](const UsageSample& s) { return s.link_s[1]; })},
       {}});
  chart.lanes.push_back({{.title = "requests"},
                         {CountOf(usage, "waiting", &UsageSample::waiting),
                          CountOf(usage, "running", &UsageSample::running)},
                         {}});
  return {absl::StrCat(entry.contender.label, ": use over time"), "", std::move(chart), true};
}

}  // namespace

Report ComparisonReport(const Comparison& comparison) {
  Report report("sluice simulate", Verdict(comparison));
  const Summary& best = Fastest(comparison).summary;
  report.AddFigures({{"mean TTFT", Time(best.ttft_s.mean), "", Fastest(comparison).contender.label},
                     {"p99 TTFT", Time(best.ttft_s.p99), "", Fastest(comparison).contender.label},
                     {"requests", absl::StrCat(best.requests), "", ""},
                     {"makespan of bound", Share(best.makespan_s, best.bound_s), "", ""}});
  report.AddTable(ResultTable(comparison));
  report.AddSection("Time to first token");
  report.AddChart(TtftChart(comparison));
  report.AddChart(KappaChart(comparison, false));
  report.AddChart(KappaChart(comparison, true));
  report.AddSection("Use of the machine", comparison.entries.size() > kMostDetailed
                                              ? "Of the first three policies."
                                              : "");
  const size_t detailed = std::min(kMostDetailed, comparison.entries.size());
  for (size_t i = 0; i < detailed; ++i) report.AddChart(UsageChart(comparison.entries[i]));
  report.AddSection("A window in the middle",
                    "Every step and copy while a few requests from the middle of the workload were "
                    "under way, and what became of them.");
  for (size_t i = 0; i < detailed; ++i) {
    const Comparison::Entry& entry = comparison.entries[i];
    report.AddChart(
        {absl::StrCat(entry.contender.label, ": window"), "", WindowChart(entry.result), true});
  }
  report.AddFooter(comparison.command);
  return report;
}

}  // namespace sluice
