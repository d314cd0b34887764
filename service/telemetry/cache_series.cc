#include "service/telemetry/cache_series.h"

#include "absl/strings/str_cat.h"
#include "service/telemetry/buckets.h"
#include "service/telemetry/link_labels.h"

namespace sluice {

namespace {

double OrElse(Bytes bytes, double other) { return bytes > Bytes(0) ? AsDouble(bytes) : other; }

}  // namespace

CacheSeries::CacheSeries(SeriesMaker& make, const BackendInfo& info)
    : block_bytes_(AsDouble(info.geometry.bytes_per_block)),
      device_block_bytes_(OrElse(info.device_block_bytes, block_bytes_)),
      disk_block_bytes_(OrElse(info.disk_block_bytes, block_bytes_)),
      reserved_(make.Gauge("sluice_kv_reserved_bytes",
                           "Device bytes promised to admitted requests and not yet taken.")),
      recomputed_(make.Counter("sluice_recomputed_tokens_total",
                               "Tokens computed again after preemption or failed loads.")),
      generated_(make.Counter("sluice_generated_tokens_total", "Output tokens.")),
      corrupt_(make.Counter(
          absl::StrCat("sluice_kv_", TierName(info.storage_tier), "_corrupt_blocks_total").c_str(),
          "Blocks read from that tier, found to be wrong, and computed instead.")),
      spills_(
          make.Gauge("sluice_kv_spill_pending_bytes",
                     "KV on its way to the disk or the remote store, also by way of host memory.")),
      step_error_(make.Gauge("sluice_cost_step_error_ratio_median",
                             "Recent median of |predicted - measured| / measured, of step times.")),
      copy_error_(make.Gauge("sluice_cost_copy_error_ratio_median", "The same of copy times.")),
      kappa_critical_(make.Gauge(
          "sluice_kappa_critical_ratio",
          "Cached tokens loaded per token computed at which link and compute take equally long, "
          "with costs as measured.")) {
  auto& capacity = make.Gauges("sluice_kv_tier_capacity_bytes", "Size of the tier's block pool.");
  auto& used = make.Gauges("sluice_kv_tier_used_bytes", "Bytes that hold KV, reusable or in use.");
  auto& pinned = make.Gauges("sluice_kv_tier_pinned_bytes",
                             "Bytes that live requests or copies use, not evictable.");
  auto& ratio = make.Gauges("sluice_kv_tier_usage_ratio", "Pinned share of the capacity.");
  for (const sluice::Tier tier : {sluice::Tier::kDevice, sluice::Tier::kHost, info.storage_tier}) {
    const Labels at = {{"tier", kTierNames[static_cast<size_t>(tier)]}};
    tiers_.push_back({capacity.Add(at), used.Add(at), pinned.Add(at), ratio.Add(at)});
  }
  auto& tokens =
      make.Counters("sluice_prompt_tokens_total",
                    "Prompt tokens by where their KV came from; sums to all prompt tokens.");
  for (const char* tier : kTierNames) prompt_tokens_.emplace_back(tokens.Add({{"source", tier}}));
  prompt_tokens_.emplace_back(tokens.Add({{"source", "computed"}}));
  auto& evictions =
      make.Counters("sluice_kv_block_evictions_total", "Cached blocks given up to make room.");
  for (const char* tier : {"device", "host", TierName(info.storage_tier)}) {
    evictions_.emplace_back(evictions.Add({{"tier", tier}, {"reason", "capacity"}}));
  }
  auto& residency =
      make.Histograms("sluice_kv_block_residency_seconds",
                      "How long reusable KV stayed on the tier, of blocks that have left it.");
  for (const char* tier : {"device", "host", TierName(info.storage_tier)}) {
    residency_.emplace_back(residency.Add({{"tier", tier}}, buckets::kResidencySeconds));
  }
  auto& disk_off =
      make.Gauges(absl::StrCat("sluice_kv_", TierName(info.storage_tier), "_off").c_str(),
                  "1 while that tier is left alone after repeated failures.");
  for (const char* use : {"read", "write"}) disk_off_.push_back(&disk_off.Add({{"use", use}}));
  auto& decisions = make.Counters("sluice_scheduler_decisions_total", "Decisions by kind.");
  for (int i = 0; i < kDecisionCount; ++i) {
    decisions_.emplace_back(decisions.Add({{"action", DecisionName(static_cast<Decision>(i))}}));
  }
}

void CacheSeries::SetTier(const Tier& series, const TierStats& tier, double block_bytes) {
  const double capacity = AsDouble(tier.capacity);
  const double pinned = AsDouble(tier.referenced) + AsDouble(tier.in_transit);
  series.capacity.Set(capacity * block_bytes);
  series.used.Set((pinned + AsDouble(tier.cached)) * block_bytes);
  series.pinned.Set(pinned * block_bytes);
  series.ratio.Set(capacity > 0 ? pinned / capacity : 0);
}

void CacheSeries::Observe(const SchedulerStats& stats) {
  SetTier(tiers_[0], stats.device, device_block_bytes_);
  SetTier(tiers_[1], stats.host, block_bytes_);
  SetTier(tiers_[2], stats.disk, disk_block_bytes_);
  reserved_.Set(AsDouble(stats.reserved) * device_block_bytes_);
  for (size_t t = 0; t < kTierCount; ++t) {
    prompt_tokens_[t].Follow(AsDouble(stats.prompt_tokens_cached[t]));
  }
  prompt_tokens_[kTierCount].Follow(AsDouble(stats.prompt_tokens_computed));
  recomputed_.Follow(AsDouble(stats.tokens_recomputed));
  generated_.Follow(AsDouble(stats.output_tokens));
  evictions_[0].Follow(AsDouble(stats.device_evictions));
  evictions_[1].Follow(AsDouble(stats.host_evictions));
  evictions_[2].Follow(AsDouble(stats.disk_evictions));
  for (size_t t = 0; t < residency_.size(); ++t) {
    residency_[t].Follow(stats.residency[t].blocks, stats.residency[t].sum_s);
  }
  corrupt_.Follow(AsDouble(stats.disk_corrupt));
  spills_.Set(AsDouble(stats.spills_pending) * disk_block_bytes_);
  disk_off_[0]->Set(stats.disk_reads_off ? 1 : 0);
  disk_off_[1]->Set(stats.disk_writes_off ? 1 : 0);
  for (size_t i = 0; i < decisions_.size(); ++i) {
    decisions_[i].Follow(static_cast<double>(stats.decisions[i]));
  }
  step_error_.Set(stats.step_error);
  copy_error_.Set(stats.copy_error);
  kappa_critical_.Set(stats.kappa_critical);
}

}  // namespace sluice
