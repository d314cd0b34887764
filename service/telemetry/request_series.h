// The series of requests: how they ended, how long what took, what was predicted, how they used the
// cache. Written by the engine thread; prometheus values may be read by any.
#pragma once

#include <array>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/scheduler.h"
#include "service/telemetry/request_times.h"
#include "service/telemetry/series.h"

namespace sluice {

class RequestSeries {
 public:
  explicit RequestSeries(SeriesMaker& make);

  void Observe(const SchedulerStats& stats);
  void OnFirstToken(absl::Duration since_arrival) {
    ttft_.Observe(absl::ToDoubleSeconds(since_arrival));
  }
  void OnInterToken(absl::Duration gap) { itl_.Observe(absl::ToDoubleSeconds(gap)); }
  void OnFinish(const RequestFinish& finish, const RequestTimes& times);
  void OnRefused() { rejected_.Increment(); }

 private:
  void NoteParts(const RequestStats& stats, const RequestTimes& times);
  void NotePrediction(const RequestStats& stats);

  prometheus::Gauge& running_;
  prometheus::Gauge& waiting_;
  prometheus::Gauge& loading_;
  prometheus::Family<prometheus::Counter>& ended_;
  std::array<prometheus::Counter*, kFinishReasonCount> outcomes_{};
  prometheus::Counter& rejected_;
  std::vector<MirroredCounter> plans_;
  std::vector<MirroredCounter> preemptions_;
  std::vector<prometheus::Counter*> parts_;  // queue, load, stall, prefill, decode

  prometheus::Histogram& ttft_;
  prometheus::Histogram& itl_;
  prometheus::Histogram& tpot_;
  prometheus::Histogram& e2e_;
  prometheus::Histogram& queue_;
  prometheus::Histogram& prompt_tokens_;
  prometheus::Histogram& generated_tokens_;
  prometheus::Histogram& kappa_;
  prometheus::Histogram& slack_;
  prometheus::Histogram& predicted_;
  prometheus::Histogram& prediction_error_;
  prometheus::Counter& bounds_given_;
  prometheus::Counter& bounds_broken_;
};

}  // namespace sluice
