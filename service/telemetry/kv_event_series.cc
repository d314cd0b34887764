#include "service/telemetry/kv_event_series.h"

namespace sluice {

KvEventSeries::KvEventSeries(SeriesMaker& make)
    : events_(make.Counter("sluice_kv_events_total",
                           "Blocks that came or went, as told to those who subscribe.")),
      subscribers_(make.Gauge("sluice_kv_event_subscribers", "Open SubscribeKvEvents streams.")),
      gaps_(make.Counters(
          "sluice_kv_event_gaps_total",
          "Subscribers that missed events and must begin anew: they read too slowly, or asked for "
          "what is no longer kept.")),
      fell_behind_(gaps_.Add({{"reason", "fell_behind"}})),
      too_old_(gaps_.Add({{"reason", "too_old"}})) {}

void KvEventSeries::OnEvents(size_t count) const {
  if (count > 0) events_.Increment(static_cast<double>(count));
}

void KvEventSeries::OnSubscribed() const { subscribers_.Increment(); }

void KvEventSeries::OnUnsubscribed(absl::StatusCode code) const {
  subscribers_.Decrement();
  if (code == absl::StatusCode::kDataLoss) fell_behind_.Increment();
  if (code == absl::StatusCode::kOutOfRange) too_old_.Increment();
}

}  // namespace sluice
