// EngineTrace turns what the engine does into spans and keeps the latest of them. Recording costs
// one copy of an event under a short lock per step, copy and phase of a request.
//
// Thread-safe: the engine thread records, any thread reads.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "service/engine/engine_tracer.h"
#include "service/trace/trace_event.h"
#include "service/trace/trace_ring.h"

namespace sluice {

class EngineTrace final : public EngineTracer {
 public:
  // Keeps the latest `events` spans. REQUIRES: events > 0.
  explicit EngineTrace(size_t events) : ring_(events) {}

  void OnArrival(const RequestSpec& spec, absl::Time at) override;
  void OnCopiesStarted(std::span<const Copy> copies, absl::Time at) override;
  void OnCopyDone(const CopyResult& result) override;
  void OnStep(const StepPlan& plan, const StepResult& result) override;
  void OnFirstToken(RequestId request, absl::Time at) override;
  void OnFinish(RequestId request, const RequestFinish& finish, absl::Time at) override;

  // What ended after `since` and is still kept, in order of the ends; then what is under way, as
  // open spans up to `now`.
  std::vector<TraceEvent> Snapshot(absl::Time since, absl::Time now) const;

  const TraceRing& ring() const { return ring_; }

 private:
  struct Live {
    int64_t lane = 0;
    Tokens prompt;
    RequestPhase phase = RequestPhase::kQueue;
    absl::Time arrival;
    absl::Time phase_start;
  };
  struct CopyUnderWay {
    CopySpan span;
    absl::Time queued;
  };

  // Ends the phase of `live` at `at`, if it is before `next`.
  void Advance(Live& live, RequestPhase next, absl::Time at);

  TraceRing ring_;

  // The engine thread alone writes these; the lock is for Snapshot().
  mutable std::mutex mu_;
  absl::flat_hash_map<RequestId, Live> live_;  // guarded by mu_
  int64_t next_lane_ = 1;

  absl::flat_hash_map<CopyId, CopyUnderWay> copies_;  // engine thread only
};

}  // namespace sluice
