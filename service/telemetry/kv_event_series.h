// The series of what gateways are told about KV blocks: how much, how many listen, and how often
// one of them lost track and has to begin anew.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "service/telemetry/series.h"

namespace sluice {

// Thread-safe.
class KvEventSeries {
 public:
  explicit KvEventSeries(SeriesMaker& make);

  void OnEvents(size_t count) const;
  void OnSubscribed() const;
  // `code`: how the stream ended.
  void OnUnsubscribed(absl::StatusCode code) const;

 private:
  prometheus::Counter& events_;
  prometheus::Gauge& subscribers_;
  prometheus::Family<prometheus::Counter>& gaps_;
  prometheus::Counter& fell_behind_;
  prometheus::Counter& too_old_;
};

}  // namespace sluice
