#include "service/simulation/books.h"

#include <limits>

#include "scheduler/base/check.h"
#include "scheduler/cost/measure.h"

namespace sluice {

Books::Books(const SimClock& clock, size_t requests)
    : clock_(clock), start_(clock.now()), records_(requests) {}

Tokens Books::capacity() const { return Tokens(std::numeric_limits<int64_t>::max()); }

double Books::Now() const { return absl::ToDoubleSeconds(clock_.now() - start_); }

bool Books::Push(Event event) {
  RequestRecord& record = records_[event.request.index()];
  SLUICE_CHECK(!record.ended);
  if (event.token.has_value()) {
    const double now = Now();
    if (record.first_token == kNotYet) {
      record.first_token = now;
    } else {
      gaps_.Add(now - record.last_token);
    }
    record.last_token = now;
  }
  if (event.finish.has_value()) Finish(*event.finish, &record);
  return true;
}

void Books::Finish(const Event::Finish& finish, RequestRecord* record) {
  const RequestStats& stats = finish.stats;
  record->ended = true;
  ++ended_;
  record->reason = finish.reason;
  record->code = finish.status.code();
  record->finished = Now();
  // A refusal carries no statistics: it never was in the queue.
  record->refused = stats.prompt == Tokens(0);
  if (record->refused) return;
  record->queued = absl::ToDoubleSeconds(stats.arrival - start_);
  record->admitted = absl::ToDoubleSeconds(stats.admitted - start_);
  record->preemptions = stats.preemptions;
  record->plan = stats.plan;
  record->prompt = stats.prompt;
  record->output = stats.output;
  record->cached = stats.cached;
  record->computed = stats.computed;
  record->recomputed = stats.recomputed;
  record->cached_recomputed = stats.cached_recomputed;
  record->loaded = stats.loaded;
  record->kappa = stats.kappa();
  record->device_s = absl::ToDoubleSeconds(stats.device_share);
  record->link_s = absl::ToDoubleSeconds(stats.load_busy);
  record->block_s = stats.block_seconds;
  record->exposed_s = absl::ToDoubleSeconds(stats.load_exposed);
  record->wait_bound = absl::ToDoubleSeconds(stats.wait_bound);
  record->predicted_ttft = absl::ToDoubleSeconds(stats.predicted_ttft);
}

}  // namespace sluice
