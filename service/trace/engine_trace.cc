#include "service/trace/engine_trace.h"

#include <algorithm>

namespace sluice {

void EngineTrace::OnArrival(const RequestSpec& spec, absl::Time at) {
  Live live;
  live.lane = next_lane_++;
  live.prompt = Tokens(static_cast<int64_t>(spec.prompt.size()));
  live.arrival = live.phase_start = at;
  std::lock_guard<std::mutex> lock(mu_);
  live_[spec.id] = live;
}

void EngineTrace::Advance(Live& live, RequestPhase next, absl::Time at) {
  if (live.phase >= next) return;
  const absl::Time end = std::max(at, live.phase_start);
  if (end > live.phase_start) {
    ring_.Append({live.phase_start, end, PhaseSpan{live.lane, live.phase, false}});
  }
  live.phase = next;
  live.phase_start = end;
}

void EngineTrace::OnCopiesStarted(std::span<const Copy> copies, absl::Time at) {
  std::lock_guard<std::mutex> lock(mu_);
  for (const Copy& copy : copies) {
    CopyUnderWay under_way;
    under_way.queued = at;
    under_way.span.copy = copy.id.value();
    under_way.span.direction = copy.direction;
    under_way.span.copy_class = copy.copy_class;
    under_way.span.blocks = static_cast<int32_t>(copy.blocks.size());
    const auto waiting = live_.find(copy.request);
    if (waiting != live_.end()) {
      under_way.span.request = waiting->second.lane;
      // Demand loads begin with the admission; prefetches run while the request still queues.
      if (copy.copy_class == CopyClass::kDemand) Advance(waiting->second, RequestPhase::kLoad, at);
    }
    copies_[copy.id] = under_way;
  }
}

void EngineTrace::OnCopyDone(const CopyResult& result) {
  const auto it = copies_.find(result.id);
  if (it == copies_.end()) return;
  CopyUnderWay& done = it->second;
  done.span.result = result.status.code();
  done.span.bytes = result.bytes;
  // One that was taken back before its first byte has no time of its own.
  const absl::Time start = std::max(result.started, done.queued);
  done.span.queued = start - done.queued;
  ring_.Append({start, std::max(start, result.finished), done.span});
  copies_.erase(it);
}

void EngineTrace::OnStep(const StepPlan& plan, const StepResult& result) {
  StepSpan span;
  span.step = plan.id.value();
  span.sequences = static_cast<int32_t>(plan.sequences.size());
  span.stall = result.load_stall;
  std::lock_guard<std::mutex> lock(mu_);
  for (const SequenceWork& work : plan.sequences) {
    const bool prefill = work.first < work.prompt;
    (prefill ? span.prefill_tokens : span.decode_tokens) +=
        static_cast<int32_t>(work.count.value());
    if (!prefill) continue;
    const auto it = live_.find(work.request);
    if (it != live_.end()) Advance(it->second, RequestPhase::kPrefill, result.started);
  }
  ring_.Append({result.started, std::max(result.started, result.finished), span});
}

void EngineTrace::OnFirstToken(RequestId request, absl::Time at) {
  std::lock_guard<std::mutex> lock(mu_);
  const auto it = live_.find(request);
  if (it != live_.end()) Advance(it->second, RequestPhase::kDecode, at);
}

void EngineTrace::OnFinish(RequestId request, const RequestFinish& finish, absl::Time at) {
  std::lock_guard<std::mutex> lock(mu_);
  const auto it = live_.find(request);
  if (it == live_.end()) return;
  const Live& live = it->second;
  const absl::Time end = std::max(at, live.phase_start);
  if (end > live.phase_start) {
    ring_.Append({live.phase_start, end, PhaseSpan{live.lane, live.phase, false}});
  }
  const RequestStats& stats = finish.stats;
  RequestSpan span;
  span.request = live.lane;
  span.plan = stats.plan;
  span.reason = finish.reason;
  span.admitted = stats.admitted != absl::InfiniteFuture();
  span.prompt = live.prompt;
  span.output = stats.output;
  span.computed = stats.computed;
  span.cached = stats.cached;
  span.kappa = stats.kappa();
  span.load_busy = stats.load_busy;
  span.load_exposed = stats.load_exposed;
  span.predicted_ttft = stats.predicted_ttft;
  span.preemptions = stats.preemptions;
  ring_.Append({live.arrival, end, span});
  live_.erase(it);
}

std::vector<TraceEvent> EngineTrace::Snapshot(absl::Time since, absl::Time now) const {
  std::vector<TraceEvent> events, batch;
  const uint64_t end = ring_.end();
  for (uint64_t at = ring_.begin(); at < end;) {
    batch.clear();
    at = ring_.Read(at, &batch);
    for (const TraceEvent& event : batch) {
      if (event.end > since) events.push_back(event);
    }
  }
  std::lock_guard<std::mutex> lock(mu_);
  for (const auto& [id, live] : live_) {
    const absl::Time open_end = std::max(now, live.phase_start);
    events.push_back({live.phase_start, open_end, PhaseSpan{live.lane, live.phase, true}});
    RequestSpan span;
    span.request = live.lane;
    span.prompt = live.prompt;
    span.open = true;
    events.push_back({live.arrival, open_end, span});
  }
  return events;
}

}  // namespace sluice
