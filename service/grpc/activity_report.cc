#include "service/grpc/activity_report.h"

#include <algorithm>
#include <array>

#include "service/telemetry/link_labels.h"

namespace sluice {
namespace {

constexpr size_t kTenants = 16;

uint64_t Count(int64_t value) { return static_cast<uint64_t>(std::max<int64_t>(0, value)); }

void AddLinks(const ActivitySnapshot& activity, Tier storage, v1::Activity* out) {
  const auto ends = LinkEndsWith(storage);
  for (size_t d = 0; d < ends.size(); ++d) {
    v1::LinkActivity* link = out->add_links();
    link->set_source(ends[d].source);
    link->set_target(ends[d].target);
    link->set_busy_s(absl::ToDoubleSeconds(activity.links[d].busy));
    link->set_bytes(Count(activity.links[d].moved.value()));
    link->set_in_flight_bytes(Count(activity.links[d].in_flight.value()));
  }
}

void AddTiers(const SchedulerStats& stats, v1::Activity* out) {
  const std::array<const TierStats*, 3> tiers = {&stats.device, &stats.host, &stats.disk};
  for (size_t t = 0; t < tiers.size(); ++t) {
    v1::TierActivity* tier = out->add_tiers();
    const Tier which = t == 2 ? stats.storage_tier : static_cast<Tier>(t);
    tier->set_tier(TierName(which));
    *tier->mutable_blocks() = MakeTierLoad(*tiers[t]);
    tier->set_hit_tokens(Count(stats.prompt_tokens_cached[static_cast<size_t>(which)].value()));
  }
}

void SetSummary(const RecentQuantiles::Summary& from, v1::LatencySummary* to) {
  to->set_count(Count(from.count));
  to->set_p50_s(absl::ToDoubleSeconds(from.p50));
  to->set_p95_s(absl::ToDoubleSeconds(from.p95));
  to->set_p99_s(absl::ToDoubleSeconds(from.p99));
}

void AddTenants(const Metrics& metrics, v1::Activity* out) {
  for (const TenantUse& use : metrics.BusiestTenants(kTenants)) {
    v1::TenantActivity* tenant = out->add_tenants();
    tenant->set_tenant(use.name);
    tenant->set_live(static_cast<uint32_t>(use.live));
    tenant->set_finished(Count(use.finished));
    tenant->set_prompt_tokens(Count(use.prompt.value()));
    tenant->set_output_tokens(Count(use.output.value()));
    tenant->set_device_s(absl::ToDoubleSeconds(use.device));
    tenant->set_link_s(absl::ToDoubleSeconds(use.link));
  }
}

}  // namespace

v1::TierLoad MakeTierLoad(const TierStats& tier) {
  v1::TierLoad load;
  load.set_capacity(Count(tier.capacity.value()));
  load.set_free(Count(tier.free.value()));
  load.set_referenced(Count(tier.referenced.value()));
  load.set_cached(Count(tier.cached.value()));
  load.set_in_transit(Count(tier.in_transit.value()));
  return load;
}

v1::Activity MakeActivity(const ServiceContext& context) {
  const EngineLoad load = context.engine.loop().load();
  const SchedulerStats& stats = load.scheduler;
  const absl::Time now = context.clock();
  v1::Activity out;
  out.set_compute_only_s(absl::ToDoubleSeconds(load.activity.compute_only));
  out.set_transfer_only_s(absl::ToDoubleSeconds(load.activity.transfer_only));
  out.set_both_s(absl::ToDoubleSeconds(load.activity.both));
  out.set_idle_s(absl::ToDoubleSeconds(load.activity.idle));
  out.set_load_stall_s(absl::ToDoubleSeconds(load.activity.load_stall));
  AddLinks(load.activity, stats.storage_tier, &out);
  AddTiers(stats, &out);
  out.set_waiting(static_cast<uint32_t>(stats.waiting));
  out.set_running(static_cast<uint32_t>(stats.running));
  out.set_loading(static_cast<uint32_t>(stats.loading));
  out.set_draining(load.draining);
  int64_t finished = 0;
  for (const int64_t count : stats.finished) finished += count;
  out.set_requests_finished(Count(finished));
  out.set_output_tokens(Count(stats.output_tokens.value()));
  out.set_prompt_tokens_computed(Count(stats.prompt_tokens_computed.value()));
  out.set_kappa_critical(stats.kappa_critical);
  SetSummary(context.metrics.RecentFirstToken(now), out.mutable_first_token());
  SetSummary(context.metrics.RecentInterToken(now), out.mutable_inter_token());
  AddTenants(context.metrics, &out);
  for (int i = 0; i < kDecisionCount; ++i) {
    (*out.mutable_decisions())[DecisionName(static_cast<Decision>(i))] =
        Count(stats.decisions[static_cast<size_t>(i)]);
  }
  if (context.power == nullptr) return out;
  for (const PowerReading& reading : context.power->readings()) {
    v1::PowerActivity* power = out.add_power();
    power->set_device(reading.device);
    power->set_watts(reading.power.value());
    power->set_joules(reading.energy.value());
  }
  return out;
}

}  // namespace sluice
