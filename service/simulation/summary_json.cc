#include "service/simulation/summary_json.h"

#include <array>
#include <cmath>

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, kLinkDirectionCount> kDirections = {
    "host_to_device", "device_to_host", "disk_to_host", "host_to_disk"};
constexpr std::array<const char*, kTierCount> kTiers = {"device", "host", "disk", "remote"};

Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json DistributionJson(const Distribution& d) {
  return {{"mean", d.mean}, {"p50", d.p50}, {"p90", d.p90}, {"p99", d.p99}, {"max", d.max}};
}

Json KappaJson(const Summary& summary) {
  Json buckets = Json::array();
  for (const KappaBucket& bucket : summary.kappa) {
    buckets.push_back({{"range", bucket.label},
                       {"requests", bucket.requests},
                       {"ttft_mean_s", bucket.ttft_s.mean},
                       {"ttft_p99_s", bucket.ttft_s.p99},
                       {"slowdown_mean", bucket.slowdown.mean}});
  }
  return buckets;
}

Json DecisionsJson(const SchedulerStats& stats) {
  Json decisions = Json::object();
  for (int i = 0; i < kDecisionCount; ++i) {
    decisions[DecisionName(static_cast<Decision>(i))] = stats.decisions[static_cast<size_t>(i)];
  }
  return decisions;
}

void AddTimes(const Summary& s, Json* json) {
  (*json)["makespan_s"] = s.makespan_s;
  (*json)["bound_s"] = s.bound_s;
  (*json)["link_work_s"] = s.work.link.value();
  (*json)["compute_work_s"] = s.work.compute.value();
  (*json)["link_busy_s"] = s.link_busy_s[0];
  (*json)["device_busy_s"] = s.device_busy_s;
  (*json)["exposed_link_s"] = s.exposed_link_s;
  Json busy = Json::object();
  for (size_t d = 0; d < kLinkDirectionCount; ++d) busy[kDirections[d]] = s.link_busy_s[d];
  (*json)["link_busy_by_direction_s"] = std::move(busy);
  (*json)["max_wait_s"] = s.max_wait_s;
  (*json)["wait_bound_s"] = Number(s.wait_bound_s);
  (*json)["beyond_wait_bound"] = s.beyond_wait_bound;
}

void AddTokens(const Summary& s, const SchedulerStats& stats, Json* json) {
  Json cached = Json::object();
  for (size_t tier = 0; tier < kTierCount; ++tier) {
    cached[kTiers[tier]] = stats.prompt_tokens_cached[tier].value();
  }
  (*json)["cached_tokens"] = std::move(cached);
  (*json)["computed_tokens"] = stats.prompt_tokens_computed.value();
  (*json)["recomputed_tokens"] = s.recomputed_tokens;
  (*json)["output_tokens"] = stats.output_tokens.value();
}

}  // namespace

Json SummaryJson(const Summary& s, const SchedulerStats& stats) {
  Json json = Json::object();
  json["requests"] = s.requests;
  json["completed"] = s.completed;
  json["rejected"] = s.rejected;
  json["failed"] = s.failed;
  json["ttft_s"] = DistributionJson(s.ttft_s);
  json["slowdown"] = DistributionJson(s.slowdown);
  json["itl_s"] = DistributionJson(s.itl_s);
  AddTimes(s, &json);
  json["jain"] = s.fairness.jain;
  json["contended_windows"] = s.fairness.contended_windows;
  json["dominant_share"] = s.fairness.dominant_share;
  json["energy_j"] = s.energy_j;
  AddTokens(s, stats, &json);
  json["decisions"] = DecisionsJson(stats);
  json["ttft_prediction_error"] =
      s.ttft_prediction_error < 0 ? Json(nullptr) : Json(s.ttft_prediction_error);
  json["kappa"] = KappaJson(s);
  return json;
}

}  // namespace sluice
