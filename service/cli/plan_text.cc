#include "service/cli/plan_text.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "service/cli/table.h"
#include "service/report/number_text.h"

namespace sluice {
namespace {

using Align = Table::Align;

std::string Time(Seconds time) {
  return std::isinf(time.value()) ? "impossible" : FormatSeconds(time.value());
}
std::string Number(double value) { return FormatSignificant(value, 3); }
std::string Share(double share) { return FormatPercent(share, 3); }

std::string Spread(const Percentiles& p) {
  return absl::StrCat(FormatWithPrefix(p.p10), " / ", FormatWithPrefix(p.p50), " / ",
                      FormatWithPrefix(p.p90));
}

std::string BreakEven(const std::optional<Tokens>& tokens) {
  return tokens.has_value() ? absl::StrCat(WithCommas(tokens->value()), " tokens") : "never";
}

std::string TypicalText(const RequestShape& r) {
  return absl::StrCat(WithCommas(r.cached.value()), " cached + ", WithCommas(r.fresh.value()),
                      " new tokens");
}

void AddRequestFigures(const PlanResult& result, std::vector<PlanFigure>& figures) {
  const PlanAnalysis& a = result.now.analysis;
  if (result.requests.single) {
    figures.push_back({"κ of the request", FormatWithPrefix(a.kappa.p50), "cached / new tokens"});
    figures.push_back({"slack", FormatSeconds((a.prefill - a.load).value()),
                       a.link_bound_by_slack > 0 ? "computing ends before loading: link-bound"
                                                 : "loading ends before computing: device-bound"});
    return;
  }
  figures.push_back(
      {"κ of the requests", Spread(a.kappa), "cached / new tokens: 10th, 50th, 90th percentile"});
  figures.push_back({"link-bound by slack", Share(a.link_bound_by_slack),
                     "of requests load longer than they compute"});
  figures.push_back({"link-bound by κ", Share(a.link_bound_by_kappa),
                     "of requests are above κ_crit: the paper's test"});
}

void AddTypicalFigures(const PlanResult& result, std::vector<PlanFigure>& figures) {
  const PlanAnalysis& a = result.now.analysis;
  const Deployment& d = result.now.scenario.deployment;
  figures.push_back({"P*", WithCommas(a.hiding_tokens.value()),
                     "new tokens whose attention hides the load of any context"});
  figures.push_back({"break-even link", RateText(a.break_even_link),
                     absl::StrCat("a faster one does not help ", TypicalText(a.typical))});
  if (d.basis == RateBasis::kPaper) return;
  figures.push_back(
      {"fit on the device", WithCommas(a.batch),
       absl::StrCat("of these, in ", FormatBinaryBytes(static_cast<double>(a.kv_capacity.value())),
                    " beside the weights")});
  figures.push_back({"decode step", Time(a.decode_step), "of all that fit, one token each"});
  if (d.hardware.disk.exists()) {
    figures.push_back({"disk pays from", BreakEven(a.break_even_disk),
                       "cached; shorter prefixes are computed sooner than read"});
  }
  figures.push_back(
      {"energy to first token", absl::StrCat(Number(a.energy.total.value()), " J"),
       absl::StrCat("at ", Share(a.energy.tdp_share), " of TDP; ",
                    Number(a.energy_recompute.total.value()), " J without offloading")});
}

std::string FiguresTable(const PlanResult& result) {
  Table table({{"", Align::kLeft}, {"value"}, {"meaning", Align::kLeft}});
  for (const PlanFigure& figure : PlanFigures(result)) {
    table.AddRow({figure.name, figure.value, figure.meaning});
  }
  return table.Render();
}

std::string PlansTable(const PlanResult& result) {
  const bool single = result.requests.single;
  Table table({{"plan", Align::kLeft},
               {single ? "TTFT" : "mean TTFT"},
               {single ? "best" : "best for"},
               {"against the best"}});
  for (const std::vector<std::string>& row : PlanRows(result.now.analysis)) table.AddRow(row);
  return table.Render();
}

// κ across, new tokens down.
std::string RegionsTable(const PlanResult& result) {
  const std::vector<double> kappas = {1, 10, 100, 1000, 10000};
  const PlanRegions regions = MapRegions(
      result.now.scenario.deployment, kappas,
      {Tokens(1), Tokens(16), Tokens(128), Tokens(1024), Tokens(8192)}, result.context_limit);
  std::vector<Table::Column> columns = {{"new tokens"}};
  for (const double kappa : kappas) {
    columns.push_back({absl::StrCat("κ ", WithCommas(std::llround(kappa))), Align::kLeft});
  }
  Table table(columns);
  for (size_t row = 0; row < regions.fresh.size(); ++row) {
    std::vector<std::string> cells = {WithCommas(regions.fresh[row].value())};
    for (size_t column = 0; column < kappas.size(); ++column) {
      const std::optional<TtftKind> best = regions.best[row * kappas.size() + column];
      cells.emplace_back(best.has_value() ? TtftKindText(*best) : "·");
    }
    table.AddRow(cells);
  }
  return table.Render();
}

std::string WhatIfTable(const PlanResult& result) {
  Table table({{"what if", Align::kLeft},
               {"κ_crit"},
               {"link-bound"},
               {"in transfers"},
               {"TTFT"},
               {"change"},
               {"energy, J"},
               {"fit"}});
  for (const std::vector<std::string>& row : WhatIfRows(result)) table.AddRow(row);
  return table.Render();
}

}  // namespace

std::vector<PlanFigure> PlanFigures(const PlanResult& result) {
  const PlanAnalysis& a = result.now.analysis;
  const std::string mean = result.requests.single ? "" : "mean, ";
  std::vector<PlanFigure> figures;
  figures.push_back({"κ_crit", Number(a.kappa_crit),
                     "cached per new token where load = compute (paper's formula)"});
  figures.push_back({"κ_crit with attention", Number(a.kappa_crit_typical),
                     std::isinf(a.kappa_crit_typical)
                         ? absl::StrCat("attention of ", WithCommas(a.typical.fresh.value()),
                                        " new tokens hides the load of any context")
                         : absl::StrCat("and the least time of a step, for ",
                                        WithCommas(a.typical.fresh.value()), " new tokens")});
  AddRequestFigures(result, figures);
  figures.push_back(
      {"load", Time(a.load),
       absl::StrCat(mean, FormatBinaryBytes(a.kv_bytes_per_token), " of KV per cached token")});
  figures.push_back({"compute", Time(a.prefill),
                     absl::StrCat(mean, Number(a.prefill_flop_per_token.value() / 1e9),
                                  " GFLOP per new token and attention")});
  figures.push_back(
      {"time in transfers", Share(a.transfer_share), "of load and compute, before they overlap"});
  AddTypicalFigures(result, figures);
  return figures;
}

std::vector<std::vector<std::string>> PlanRows(const PlanAnalysis& analysis) {
  std::vector<std::vector<std::string>> rows;
  const Seconds best = TtftOf(analysis, TtftKind::kBest);
  for (int i = 0; i < kTtftKindCount; ++i) {
    const auto kind = static_cast<TtftKind>(i);
    const Seconds ttft = TtftOf(analysis, kind);
    // The reference plans are never chosen.
    const bool reference = kind == TtftKind::kSerial || kind == TtftKind::kBest;
    rows.push_back({TtftKindText(kind), Time(ttft),
                    reference ? "" : Share(analysis.best_share[static_cast<size_t>(i)]),
                    std::isinf(ttft.value()) ? "" : absl::StrCat(Fixed(ttft / best, 2), "x")});
  }
  return rows;
}

std::vector<std::vector<std::string>> WhatIfRows(const PlanResult& result) {
  std::vector<std::vector<std::string>> rows;
  const Seconds now = TtftOf(result.now.analysis, TtftKind::kBest);
  const auto add = [&](const PlanResult::Outcome& outcome) {
    const PlanAnalysis& a = outcome.analysis;
    const Seconds ttft = TtftOf(a, TtftKind::kBest);
    rows.push_back({outcome.scenario.label, Number(a.kappa_crit), Share(a.link_bound_by_slack),
                    Share(a.transfer_share), Time(ttft),
                    rows.empty() ? "" : ChangeText(ttft.value(), now.value()),
                    Number(a.energy.total.value()), WithCommas(a.batch)});
  };
  add(result.now);
  for (const PlanResult::Outcome& outcome : result.what_ifs) add(outcome);
  return rows;
}

std::string WhatIfNote(const PlanResult& result) {
  for (const PlanResult::Outcome& outcome : result.what_ifs) {
    if (outcome.scenario.deployment.model.latent_dim == 0 ||
        result.now.scenario.deployment.model.latent_dim > 0) {
      continue;
    }
    return "mla: a smaller cache, but attention in the latent space takes more FLOP per pair of "
           "tokens.\n";
  }
  return "";
}

std::string PlanText(const PlanResult& result) {
  const Deployment& d = result.now.scenario.deployment;
  std::string text = absl::StrCat(DeploymentText(d), "  (", AssumptionsText(d), ")\n",
                                  result.requests.name, "\n\n", FiguresTable(result), "\n");
  absl::StrAppend(&text, "Time to first token on an idle machine:\n", PlansTable(result), "\n");
  absl::StrAppend(&text, "The fastest plan by κ and new tokens (· = longer than the context):\n",
                  RegionsTable(result), "\n");
  if (!result.what_ifs.empty()) {
    absl::StrAppend(&text, "What if (TTFT of the best plan for each request):\n",
                    WhatIfTable(result), WhatIfNote(result), "\n");
  }
  return absl::StrCat(text, Recommendation(result), "\n");
}

std::string CatalogueText(const Catalogue& catalogue) {
  Table models({{"model", Align::kLeft},
                {"parameters"},
                {"active"},
                {"layers"},
                {"KV per token"},
                {"κ_M, MFLOP/B"},
                {"context"},
                {"weights", Align::kLeft}});
  for (const auto& [name, m] : catalogue.models()) {
    const double kv = KvBytesPerToken(m, NumberFormat::kBf16);
    models.AddRow({name, FormatWithPrefix(m.total_parameters),
                   FormatWithPrefix(m.active_parameters), absl::StrCat(m.layers),
                   FormatBinaryBytes(kv), Number(KappaModel(m, NumberFormat::kBf16) / 1e6),
                   WithCommas(m.max_context), NumberFormatName(m.weights)});
  }
  Table hardware({{"hardware", Align::kLeft},
                  {"memory"},
                  {"bf16 peak"},
                  {"sustained"},
                  {"link peak"},
                  {"sustained"},
                  {"TDP"},
                  {"what", Align::kLeft}});
  for (const auto& [name, h] : catalogue.hardware()) {
    const ComputeRate& rate = h.RateFor(NumberFormat::kBf16);
    const auto tera = [](FlopRate r) { return absl::StrCat(Number(r.value() / 1e12), " TFLOP/s"); };
    hardware.AddRow({name, absl::StrCat(Number(static_cast<double>(h.memory.value()) / 1e9), " GB"),
                     tera(rate.peak_dense), tera(rate.sustained), RateText(h.to_device.peak),
                     RateText(h.to_device.sustained), absl::StrCat(Number(h.tdp.value()), " W"),
                     h.description});
  }
  return absl::StrCat(models.Render(), "\n", hardware.Render(),
                      "\nKV per token and κ_M are for bf16. Profiles of your own: --profile-dir "
                      "DIR, or a path to a file.\n");
}

std::string PaperText(const std::vector<PaperRow>& rows) {
  Table table({{"arXiv 2601.19910", Align::kLeft},
               {"printed"},
               {"its constants"},
               {"differs"},
               {"dense peaks"},
               {"sustained"},
               {"unit", Align::kLeft}});
  std::string notes;
  std::vector<std::string> seen;
  const auto optional = [](const std::optional<double>& value) {
    return value.has_value() ? Number(*value) : "";
  };
  for (const PaperRow& row : rows) {
    const double differs = row.paper_constants / row.printed - 1;
    table.AddRow(
        {row.what, FormatSignificant(row.printed, 4), Number(row.paper_constants),
         absl::StrCat(row.deviates ? "! " : "",
                      absl::StrCat(FormatSignificant(std::round(differs * 1000) / 10, 3)), " %"),
         optional(row.dense_peak), optional(row.sustained), row.unit});
  }
  for (const PaperRow& row : rows) {
    if (row.note.empty()) continue;
    bool known = false;
    for (const std::string& note : seen) known = known || note == row.note;
    if (known) continue;
    seen.push_back(row.note);
    absl::StrAppend(&notes, "- ", row.what, ": ", row.note, "\n");
  }
  return absl::StrCat(
      table.Render(), "\n! = the printed figure does not follow from the paper's own constants.\n",
      "Dense peaks and sustained rates: what the same formula gives with them.\n\n", notes);
}

}  // namespace sluice
