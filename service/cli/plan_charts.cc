#include "service/cli/plan_charts.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "service/report/axis_scale.h"
#include "service/report/number_text.h"

namespace sluice {
namespace {

// The same colour for the same plan in every chart.
constexpr int kColors[kTtftKindCount] = {7, 6, 0, 3, 2, 1, 4};
// A plan this much slower than recomputing would only squeeze the others; tables have it.
constexpr double kOffTheChart = 4;
constexpr int kDeviceColor = 0;
constexpr int kLinkColor = 1;

int ColorOf(TtftKind kind) { return kColors[static_cast<size_t>(kind)]; }

const Axis kKappaAxis{.title = "κ = cached / new tokens", .scale = Scale::kLog};
const Axis kTtftAxis{
    .title = "time to first token", .scale = Scale::kLog, .format = TickFormat::kSeconds};

// `count` + 1 values from `low` to `high`, each the same factor above the one before.
std::vector<double> Powers(double low, double high, int count) {
  std::vector<double> values;
  for (int i = 0; i <= count; ++i) values.push_back(low * std::pow(high / low, 1.0 * i / count));
  return values;
}

// Geometric middles of neighbouring edges.
std::vector<double> Middles(const std::vector<double>& edges) {
  std::vector<double> middles;
  for (size_t i = 0; i + 1 < edges.size(); ++i) {
    middles.push_back(std::sqrt(edges[i] * edges[i + 1]));
  }
  return middles;
}

std::vector<Point> RequestPoints(const std::vector<RequestShape>& shapes) {
  std::vector<Point> points;
  for (const RequestShape& r : shapes)
    points.push_back({AsDouble(r.cached) / AsDouble(r.fresh), AsDouble(r.fresh)});
  return points;
}

}  // namespace

RegionMap RegionsChart(const PlanResult& result) {
  const Deployment& d = result.now.scenario.deployment;
  RegionMap map{.x = kKappaAxis,
                .y = {.title = "new tokens", .scale = Scale::kLog},
                .x_edges = Powers(0.3, 30000, 60),
                .y_edges = Powers(1, 32768, 45)};
  std::vector<Tokens> fresh;
  for (const double middle : Middles(map.y_edges)) {
    fresh.emplace_back(std::max<int64_t>(1, std::llround(middle)));
  }
  const PlanRegions regions = MapRegions(d, Middles(map.x_edges), fresh, result.context_limit);
  // Only plans that win somewhere are categories.
  std::vector<int> category(kTtftKindCount, -1);
  for (const std::optional<TtftKind>& best : regions.best) {
    if (!best.has_value()) {
      map.cells.push_back(-1);
      continue;
    }
    int& slot = category[static_cast<size_t>(*best)];
    if (slot < 0) {
      slot = static_cast<int>(map.categories.size());
      map.categories.emplace_back(TtftKindText(*best));
      map.colors.push_back(ColorOf(*best));
    }
    map.cells.push_back(slot);
  }
  const double crit = result.now.analysis.kappa_crit;
  map.overlays.push_back(
      {.name = "κ_crit (paper)", .points = {{crit, 1}, {crit, 32768}}, .color = 7, .dashed = true});
  Series bound{.name = "κ_crit with attention", .color = 7};
  for (const Tokens count : fresh) {
    const double kappa = KappaCriticalAt(d, count);
    const bool within = kappa * AsDouble(count) <= AsDouble(result.context_limit);
    bound.points.push_back({within ? kappa : NAN, AsDouble(count)});
  }
  map.overlays.push_back(bound);
  map.overlays.push_back({.name = result.requests.single ? "the request" : "requests",
                          .points = RequestPoints(result.requests.shapes),
                          .mark = Mark::kPoints,
                          .color = 4});
  return map;
}

LineChart RooflineChart(const PlanResult& result) {
  const Deployment& d = result.now.scenario.deployment;
  const double peak = EffectiveFlopRate(d).value() / 1e12;
  const double link = EffectiveLinkRate(d).value();
  const double ridge = peak * 1e12 / link;
  LineChart chart{
      .x = {.title = "FLOP per byte loaded over the link", .scale = Scale::kLog},
      .y = {.title = "rate that can be reached", .unit = "TFLOP/s", .scale = Scale::kLog}};
  const double low = ridge / 1e4, high = ridge * 1e3;
  chart.series.push_back(
      {.name = absl::StrCat("roof: link ", FormatSignificant(link / 1e9, 3), " GB/s, then compute"),
       .points = {{low, low * link / 1e12}, {ridge, peak}, {high, peak}},
       .color = kDeviceColor});
  Series requests{.name = result.requests.single ? "the request" : "requests, overlapped load",
                  .mark = Mark::kPoints,
                  .color = 4};
  for (const RequestShape& r : result.requests.shapes) {
    if (r.cached == Tokens(0)) continue;
    const double flop = PrefillFlopPerToken(d.model, r.cached, r.fresh).value() * AsDouble(r.fresh);
    const Bytes bytes = KvBytes(d.model, d.kv_offload, r.cached);
    const double rate = flop / Ttft(d, r).overlapped.value() / 1e12;
    requests.points.push_back({flop / static_cast<double>(bytes.value()), rate});
  }
  chart.series.push_back(std::move(requests));
  chart.x_lines.push_back({ridge, "ridge"});
  return chart;
}

LineChart BandwidthChart(const PlanResult& result) {
  Deployment d = result.now.scenario.deployment;
  const RequestShape& r = result.now.analysis.typical;
  const ByteRate here = EffectiveLinkRate(d);
  const ByteRate even = BreakEvenLink(d, r);
  double low = std::min(1e9, here.value() / 8), high = std::max(1e12, here.value() * 8);
  LineChart chart{.x = {.title = "link, host to device", .unit = "GB/s", .scale = Scale::kLog},
                  .y = kTtftAxis};
  const TtftKind kinds[] = {TtftKind::kSerial,  TtftKind::kOverlapped, TtftKind::kSplit,
                            TtftKind::kInPlace, TtftKind::kRecompute,  TtftKind::kResident};
  for (const TtftKind kind : kinds) {
    chart.series.push_back({.name = TtftKindText(kind),
                            .color = ColorOf(kind),
                            .dashed = kind == TtftKind::kResident});
  }
  for (const double rate : Powers(low, high, 60)) {
    d.link = ByteRate(rate);
    const TtftByPlan ttft = Ttft(d, r);
    for (size_t i = 0; i < std::size(kinds); ++i) {
      chart.series[i].points.push_back({rate / 1e9, TtftOf(ttft, kinds[i]).value()});
    }
  }
  const double limit = Ttft(d, r).recompute.value() * kOffTheChart;
  const auto hopeless = [&](const Series& s) { return !(s.points.back().y < limit); };
  chart.series.erase(std::remove_if(chart.series.begin(), chart.series.end(), hopeless),
                     chart.series.end());
  chart.x_lines.push_back({here.value() / 1e9, absl::StrCat("here: ", RateText(here))});
  if (even.value() >= low && even.value() <= high) {
    chart.x_lines.push_back({even.value() / 1e9, absl::StrCat("enough: ", RateText(even))});
  }
  return chart;
}

BarChart TimeSplitChart(const PlanResult& result) {
  const PlanAnalysis& a = result.now.analysis;
  BarChart chart{.x = {.format = TickFormat::kSeconds},
                 .parts = {"computing", "waiting for the link"},
                 .colors = {kDeviceColor, kLinkColor}};
  for (int i = 0; i < kTtftKindCount; ++i) {
    const auto kind = static_cast<TtftKind>(i);
    const Seconds ttft = TtftOf(a, kind);
    if (!(ttft < TtftOf(a, TtftKind::kRecompute) * kOffTheChart)) continue;
    const Seconds compute = a.compute[static_cast<size_t>(i)];
    chart.bars.push_back(
        {.label = TtftKindText(kind), .parts = {compute.value(), (ttft - compute).value()}});
  }
  return chart;
}

LineChart KappaChart(const PlanResult& result) {
  std::vector<double> kappas;
  for (const RequestShape& r : result.requests.shapes) {
    kappas.push_back(AsDouble(r.cached) / AsDouble(r.fresh));
  }
  LineChart chart = CdfChart(kKappaAxis, {{"", kappas}});
  chart.x_lines.push_back({result.now.analysis.kappa_crit, "κ_crit"});
  chart.x_lines.push_back({result.now.analysis.kappa_crit_typical, "with attention"});
  return chart;
}

LineChart SlackChart(const PlanResult& result) {
  const Deployment& d = result.now.scenario.deployment;
  LineChart chart{.x = {.title = "load time", .scale = Scale::kLog, .format = TickFormat::kSeconds},
                  .y = {.title = "compute time of the new tokens",
                        .scale = Scale::kLog,
                        .format = TickFormat::kSeconds}};
  Series link{.name = "link-bound", .mark = Mark::kPoints, .color = kLinkColor};
  Series device{.name = "device-bound", .mark = Mark::kPoints, .color = kDeviceColor};
  Extent loads(Scale::kLog), computes(Scale::kLog);
  for (const RequestShape& r : result.requests.shapes) {
    if (r.cached == Tokens(0)) continue;
    const double load = LoadTime(d, r.cached).value();
    const double compute = PrefillTime(d, r).value();
    (load > compute ? link : device).points.push_back({load, compute});
    loads.Add(load);
    computes.Add(compute);
  }
  chart.series = {link, device};
  if (loads.empty()) return chart;
  // The line of no slack crosses the requests; it must not stretch the axes.
  constexpr double kMargin = 1.3;
  chart.x.min = loads.low() / kMargin;
  chart.x.max = loads.high() * kMargin;
  chart.y.min = computes.low() / kMargin;
  chart.y.max = computes.high() * kMargin;
  const double from = std::min(*chart.x.min, *chart.y.min);
  const double to = std::max(*chart.x.max, *chart.y.max);
  chart.series.push_back(
      {.name = "no slack", .points = {{from, from}, {to, to}}, .color = 7, .dashed = true});
  return chart;
}

BarChart WhatIfChart(const PlanResult& result) {
  const double now = TtftOf(result.now.analysis, TtftKind::kBest).value();
  BarChart chart{.x = {.format = TickFormat::kSeconds},
                 .parts = {"computing", "waiting for the link"},
                 .colors = {kDeviceColor, kLinkColor}};
  const auto add = [&](const PlanResult::Outcome& outcome) {
    const double ttft = TtftOf(outcome.analysis, TtftKind::kBest).value();
    const double compute = outcome.analysis.compute[static_cast<size_t>(TtftKind::kBest)].value();
    const std::string change =
        chart.bars.empty() ? "" : absl::StrCat(" (", ChangeText(ttft, now), ")");
    chart.bars.push_back({.label = outcome.scenario.label,
                          .parts = {compute, ttft - compute},
                          .note = absl::StrCat(FormatSeconds(ttft), change)});
  };
  add(result.now);
  for (const PlanResult::Outcome& outcome : result.what_ifs) add(outcome);
  return chart;
}

}  // namespace sluice
