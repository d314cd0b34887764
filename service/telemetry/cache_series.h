// The series of the KV tiers and of what the scheduler decides about them.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "scheduler/stats.h"
#include "service/telemetry/series.h"

namespace sluice {

class CacheSeries {
 public:
  CacheSeries(SeriesMaker& make, const BackendInfo& info);

  void Observe(const SchedulerStats& stats);

 private:
  struct Tier {
    prometheus::Gauge &capacity, &used, &pinned, &ratio;
  };
  static void SetTier(const Tier& series, const TierStats& tier, double block_bytes);

  const double block_bytes_;  // on the host; what moves over the link
  const double device_block_bytes_;
  const double disk_block_bytes_;
  std::vector<Tier> tiers_;
  prometheus::Gauge& reserved_;
  std::vector<MirroredCounter> prompt_tokens_;  // by tier, then computed
  MirroredCounter recomputed_;
  MirroredCounter generated_;
  std::vector<MirroredCounter> evictions_;
  std::vector<MirroredHistogram> residency_;  // by tier
  MirroredCounter corrupt_;
  prometheus::Gauge& spills_;
  std::vector<prometheus::Gauge*> disk_off_;  // reads, writes
  std::vector<MirroredCounter> decisions_;
  prometheus::Gauge& step_error_;
  prometheus::Gauge& copy_error_;
  prometheus::Gauge& kappa_critical_;
};

}  // namespace sluice
