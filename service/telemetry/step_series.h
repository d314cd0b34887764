// The series of steps and copies, as they end.
#pragma once

#include <array>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/step.h"
#include "service/telemetry/series.h"

namespace sluice {

class StepSeries {
 public:
  // `storage`: what is behind the host, for the labels of links.
  StepSeries(SeriesMaker& make, Tier storage);

  // `wall`: the time since start, up to now; what no step took of it was idle. `ahead`: steps that
  // were planned ahead.
  void Observe(absl::Duration wall, int64_t ahead);
  void OnStep(const StepPlan& plan, const StepResult& result);
  void OnCopiesStarted(LinkDirection direction, int64_t count);
  void OnCopy(LinkDirection direction, const CopyResult& result, absl::Duration queued);

 private:
  struct Link {
    prometheus::Counter *ok, *failed, *cancelled;
    prometheus::Gauge* in_flight;
    prometheus::Histogram *seconds, *size, *queued;
  };

  prometheus::Family<prometheus::Counter>& phases_;
  const std::array<prometheus::Counter*, 4> phase_;  // prefill, decode, mixed, wait_transfer
  MirroredCounter idle_phase_;
  double phase_total_ = 0;
  prometheus::Counter& tokens_;
  prometheus::Counter& steps_;
  MirroredCounter steps_ahead_;
  prometheus::Histogram& step_tokens_;
  prometheus::Histogram& step_seconds_;
  std::vector<Link> links_;
};

}  // namespace sluice
