#include "service/cli/plan_json.h"

#include <cmath>

#include "service/cli/version.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(); }
Json Number(const std::optional<double>& value) {
  return value.has_value() ? Number(*value) : Json();
}
Json Count(const std::optional<Tokens>& tokens) {
  return tokens.has_value() ? Json(tokens->value()) : Json();
}

Json PercentilesJson(const Percentiles& p) {
  return {{"p10", p.p10}, {"p50", p.p50}, {"p90", p.p90}};
}

Json EnergyJson(const Energy& energy) {
  return {{"total_j", energy.total.value()},
          {"mean_w", energy.mean.value()},
          {"tdp_share", energy.tdp_share}};
}

const char* BasisName(RateBasis basis) {
  switch (basis) {
    case RateBasis::kSustained:
      return "sustained";
    case RateBasis::kPeakDense:
      return "peak";
    case RateBasis::kPaper:
      break;
  }
  return "paper";
}

Json DeploymentJson(const Deployment& d) {
  return {{"model", d.model.name},
          {"hardware", d.hardware.name},
          {"tp", d.tensor_parallel},
          {"basis", BasisName(d.basis)},
          {"weights_dtype", NumberFormatName(d.weights)},
          {"kv_dtype", NumberFormatName(d.kv)},
          {"kv_offload_dtype", NumberFormatName(d.kv_offload)},
          {"link_bytes_per_s", EffectiveLinkRate(d).value()},
          {"compute_flop_per_s", EffectiveFlopRate(d).value()},
          {"power_cap_w", d.power_cap.has_value() ? Json(d.power_cap->value()) : Json()}};
}

void AddPlans(const PlanAnalysis& a, Json& json) {
  for (int i = 0; i < kTtftKindCount; ++i) {
    const auto kind = static_cast<TtftKind>(i);
    json["ttft_s"][TtftKindKey(kind)] = Number(TtftOf(a, kind).value());
    if (kind == TtftKind::kSerial || kind == TtftKind::kBest) continue;
    json["best_for_share"][TtftKindKey(kind)] = a.best_share[static_cast<size_t>(i)];
  }
  json["best_plan"] = TtftKindKey(a.best_plan);
}

Json TypicalJson(const PlanAnalysis& a) {
  return {{"cached", a.typical.cached.value()},
          {"new", a.typical.fresh.value()},
          {"output", a.typical.output.value()},
          {"requests_that_fit", a.batch},
          {"tokens_per_iteration", a.iteration.tokens},
          {"token_budget_share", a.iteration.budget_share},
          {"decode_step_s", a.decode_step.value()},
          {"break_even_link_bytes_per_s", Number(a.break_even_link.value())}};
}

// The same keys for the deployment as it is and for every what-if.
Json OutcomeJson(const PlanResult::Outcome& outcome) {
  const PlanAnalysis& a = outcome.analysis;
  Json json = {{"deployment", DeploymentJson(outcome.scenario.deployment)},
               {"kappa_crit", a.kappa_crit},
               {"kappa_crit_with_attention", Number(a.kappa_crit_typical)},
               {"kappa_model_flop_per_byte", a.kappa_model},
               {"kappa_hw_byte_per_flop", a.kappa_hardware},
               {"kv_bytes_per_token", a.kv_bytes_per_token},
               {"prefill_flop_per_token", a.prefill_flop_per_token.value()},
               {"prefill_flop_per_token_with_attention", a.prefill_flop_per_token_typical.value()},
               {"load_s", a.load.value()},
               {"prefill_s", a.prefill.value()},
               {"transfer_share", a.transfer_share},
               {"link_bound_share_by_slack", a.link_bound_by_slack},
               {"link_bound_share_by_kappa", a.link_bound_by_kappa},
               {"hiding_tokens", a.hiding_tokens.value()},
               {"kv_capacity_bytes", a.kv_capacity.value()},
               {"break_even_cached_tokens",
                {{"disk", Count(a.break_even_disk)}, {"remote", Count(a.break_even_remote)}}},
               {"energy", EnergyJson(a.energy)},
               {"energy_recompute", EnergyJson(a.energy_recompute)},
               {"typical_request", TypicalJson(a)}};
  AddPlans(a, json);
  return json;
}

Json RequestsJson(const PlanResult& result) {
  const PlanAnalysis& a = result.now.analysis;
  return {{"name", result.requests.name},
          {"count", result.requests.total},
          {"priced", result.requests.shapes.size()},
          {"cold_share", a.cold_share},
          {"kappa", PercentilesJson(a.kappa)},
          {"cached_tokens", PercentilesJson(a.cached)},
          {"new_tokens", PercentilesJson(a.fresh)}};
}

}  // namespace

Json PlanJson(const PlanResult& result) {
  Json json = OutcomeJson(result.now);
  json["version"] = Version();
  json["requests"] = RequestsJson(result);
  json["recommendation"] = Recommendation(result);
  json["what_if"] = Json::array();
  for (const PlanResult::Outcome& outcome : result.what_ifs) {
    Json one = OutcomeJson(outcome);
    one["change"] = outcome.scenario.label;
    json["what_if"].push_back(std::move(one));
  }
  return json;
}

Json CatalogueJson(const Catalogue& catalogue) {
  Json json = {{"models", Json::array()}, {"hardware", Json::array()}};
  for (const auto& [name, m] : catalogue.models()) {
    json["models"].push_back({{"name", name},
                              {"total_parameters", m.total_parameters},
                              {"active_parameters", m.active_parameters},
                              {"kv_bytes_per_token", KvBytesPerToken(m, NumberFormat::kBf16)},
                              {"max_context", m.max_context},
                              {"source", m.source}});
  }
  for (const auto& [name, h] : catalogue.hardware()) {
    json["hardware"].push_back({{"name", name},
                                {"description", h.description},
                                {"memory_bytes", h.memory.value()},
                                {"link_bytes_per_s", h.to_device.sustained.value()},
                                {"sources", h.sources}});
  }
  return json;
}

Json PaperJson(const std::vector<PaperRow>& rows) {
  Json json = Json::array();
  for (const PaperRow& row : rows) {
    json.push_back({{"what", row.what},
                    {"unit", row.unit},
                    {"printed", row.printed},
                    {"paper_constants", row.paper_constants},
                    {"dense_peak", Number(row.dense_peak)},
                    {"sustained", Number(row.sustained)},
                    {"deviates", row.deviates},
                    {"note", row.note}});
  }
  return {{"paper", "arXiv 2601.19910"}, {"rows", json}};
}

}  // namespace sluice
