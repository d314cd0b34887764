#include "tests/service/report/sample_charts.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace sluice::testing {
namespace {

const Axis kTtft{
    .title = "time to first token", .scale = Scale::kLog, .format = TickFormat::kSeconds};

LineChart Lines() {
  LineChart chart{.x = {.title = "host-to-device bandwidth", .unit = "GB/s", .scale = Scale::kLog},
                  .y = kTtft};
  for (const double factor : {0.3, 1.0, 4.0}) {
    Series series{.name = absl::StrCat("plan with factor ", factor)};
    for (int i = 0; i < 21; ++i) {
      const double x = 4 * std::pow(1.3, i);
      series.points.push_back({x, factor * (0.02 + 40 / x)});
    }
    chart.series.push_back(series);
  }
  chart.series[1].dashed = true;
  chart.x_lines = {
      {15, "15 GB/s measured"}, {55, "PCIe 5 sustained"}, {57, "very near it"}, {450, "C2C"}};
  chart.y_lines = {{0.2, "target 200 ms"}};
  chart.bands = {{200, 900, "never needed"}};
  return chart;
}

LineChart Cdf() {
  std::vector<double> small, large;
  for (int i = 1; i < 700; ++i) {
    small.push_back(std::exp(2 + std::sin(i * 1.7) * 2));
    large.push_back(std::exp(5 + std::sin(i * 2.3) * 3));
  }
  return CdfChart({.title = "κ = cached / new tokens", .scale = Scale::kLog},
                  {{"ShareGPT-like", small}, {"agentic", large}});
}

LineChart Scatter() {
  LineChart chart{
      .x = {.title = "load time", .scale = Scale::kLog, .format = TickFormat::kSeconds},
      .y = {.title = "compute time", .scale = Scale::kLog, .format = TickFormat::kSeconds}};
  Series dots{.name = "requests", .mark = Mark::kPoints};
  for (int i = 1; i < 400; ++i) {
    dots.points.push_back({std::exp(std::sin(i * 1.1) * 3), std::exp(std::cos(i * 2.1) * 2)});
  }
  chart.series = {dots, {.name = "equal", .points = {{0.05, 0.05}, {20, 20}}, .dashed = true}};
  return chart;
}

RegionMap Regions() {
  RegionMap map{.x = {.title = "κ = cached / new tokens", .scale = Scale::kLog},
                .y = {.title = "new tokens", .scale = Scale::kLog},
                .categories = {"recompute", "overlapped load", "attend in place", "split"}};
  constexpr int kColumns = 48, kRows = 32;
  for (int i = 0; i <= kColumns; ++i) map.x_edges.push_back(std::pow(10, 4.0 * i / kColumns));
  for (int i = 0; i <= kRows; ++i) map.y_edges.push_back(std::pow(10, 4.0 * i / kRows));
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < kColumns; ++column) {
      map.cells.push_back(row < 5 ? 2 : (column + row < 14 ? 0 : (column < 24 + row ? 1 : 3)));
    }
  }
  map.overlays = {{.name = "κ_crit", .points = {{14, 1}, {14, 10000}}, .color = 7, .dashed = true}};
  return map;
}

BarChart Bars() {
  return {.x = {.title = "time on the idle machine", .format = TickFormat::kSeconds},
          .parts = {"waiting for the link", "computing", "hidden behind computing"},
          .bars = {{"everything resident", {0, 0.8, 0}, ""},
                   {"load, then compute", {2.4, 0.8, 0}, "3.2 s (75 % transfers)"},
                   {"overlapped", {1.7, 0.8, 0.7}, ""},
                   {"recompute everything that is cached", {0, 6.1, 0}, ""}}};
}

ColumnChart Columns() {
  return {.x_title = "κ of the request",
          .labels = {"< 1", "1 – 10", "10 – 100", "100 – 1k", "> 1k"},
          .y = {.title = "mean TTFT", .format = TickFormat::kSeconds},
          .series = {{"slack", {0.5, 0.6, 0.8, 1.1, 2}}, {"fcfs", {2.5, 2.6, 2.8, 3.1, 4}}}};
}

LaneChart Lanes() {
  LaneChart chart{.x = {.title = "time", .format = TickFormat::kSeconds}};
  for (const char* name : {"link busy", "device busy"}) {
    LaneChart::Lane lane{.y = {.title = name, .format = TickFormat::kPercent, .min = 0, .max = 1}};
    for (const double phase : {0.0, 1.5}) {
      Series series{.name = phase == 0 ? "slack" : "fcfs",
                    .mark = phase == 0 ? Mark::kArea : Mark::kLine};
      for (int i = 0; i < 300; ++i) {
        series.points.push_back({i * 1.0, 0.5 + 0.5 * std::sin(i / 20.0 + phase)});
      }
      lane.series.push_back(series);
    }
    lane.y_lines = {{0.95, "target"}};
    chart.lanes.push_back(lane);
  }
  chart.bands = {{60, 120, "burst"}};
  return chart;
}

GanttChart Gantt() {
  GanttChart chart{.x = {.title = "time", .format = TickFormat::kSeconds},
                   .rows = {"device", "link up", "link down", "disk"},
                   .kinds = {"prefill", "decode", "demand load", "prefetch", "write-back"}};
  for (int i = 0; i < 400; ++i) {
    const double at = 1.2 + i * 0.004;
    chart.spans.push_back({.row = i % 4,
                           .from = at,
                           .to = at + 0.003 + 0.001 * (i % 3),
                           .kind = i % 4 == 0 ? i / 4 % 2 : 2 + i % 3});
  }
  return chart;
}

Histogram Bins() {
  std::vector<double> values;
  for (int i = 0; i < 2000; ++i)
    values.push_back(std::exp(4 + 2 * std::sin(i * 1.3) * std::cos(i)));
  Histogram histogram = HistogramOf({.title = "new tokens", .scale = Scale::kLog}, values, 24);
  histogram.x_lines = {{90, "P*"}};
  return histogram;
}

}  // namespace

std::vector<NamedChart> SampleCharts() {
  return {{"Lines", Lines()},     {"Cdf", Cdf()},     {"Scatter", Scatter()},
          {"Regions", Regions()}, {"Bars", Bars()},   {"Columns", Columns()},
          {"Histogram", Bins()},  {"Lanes", Lanes()}, {"Gantt", Gantt()}};
}

Report SampleReport() {
  Report report(
      "sluice plan: Llama-3.1-70B on H100, PCIe 5",
      "Offloading pays: 62 % of the requests are link-bound, and loading is still 4 times "
      "faster than computing their prompts again.");
  report.AddFigures(
      {{"κ_crit", "14.3", "", "cached tokens per new token"},
       {"link-bound", "62", "%", "of requests, by slack"},
       {"TTFT", "1.8", "s", "overlapped load, median request"},
       {"break-even link", "118", "GB/s", "faster does not help the median request"}});
  report.AddSection("Charts", "One of every kind.");
  for (const NamedChart& chart : SampleCharts()) {
    report.AddChart({.title = chart.name,
                     .note = "What to see in it, in one or two sentences.",
                     .chart = chart.chart,
                     .wide = chart.name == "Lanes" || chart.name == "Gantt"});
  }
  report.AddTable({.title = "Plans",
                   .columns = {{"plan", false}, {"TTFT"}, {"against the best"}},
                   .rows = {{"overlapped", "1.8 s", "1.0x"}, {"recompute", "6.9 s", "3.8x"}},
                   .note = "On an idle machine.",
                   .highlight = 0});
  report.AddFooter("sluice plan --model llama-3.1-70b");
  return report;
}

}  // namespace sluice::testing
