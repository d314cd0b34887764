#include "service/telemetry/step_series.h"

#include <algorithm>

#include "absl/status/status.h"
#include "service/telemetry/buckets.h"
#include "service/telemetry/link_labels.h"

namespace sluice {
namespace {

double InSeconds(absl::Duration d) { return absl::ToDoubleSeconds(d); }

Labels With(Labels labels, const char* key, const char* value) {
  labels[key] = value;
  return labels;
}

}  // namespace

StepSeries::StepSeries(SeriesMaker& make, Tier storage)
    : phases_(make.Counters("sluice_step_phase_seconds_total",
                            "Wall time by kind of step; one phase always runs.")),
      phase_({&phases_.Add({{"phase", "prefill"}}), &phases_.Add({{"phase", "decode"}}),
              &phases_.Add({{"phase", "mixed"}}), &phases_.Add({{"phase", "wait_transfer"}})}),
      idle_phase_(phases_.Add({{"phase", "idle"}})),
      tokens_(
          make.Counter("sluice_step_tokens_total", "Tokens computed in steps, prompt and output.")),
      steps_(make.Counter("sluice_steps_total", "Steps that ran.")),
      steps_ahead_(make.Counter("sluice_steps_ahead_total",
                                "Steps that were launched while the one before still ran.")),
      step_tokens_(
          make.Histogram("sluice_step_size_tokens", "Tokens of a step.", buckets::kStepTokens)),
      step_seconds_(make.Histogram("sluice_step_seconds", "Duration of a step, stalls included.",
                                   buckets::kStepSeconds)) {
  auto& ops = make.Counters("sluice_kv_transfer_operations_total", "Copies that ended.");
  auto& in_flight =
      make.Gauges("sluice_kv_transfer_inflight_operations", "Copies queued or moving.");
  auto& seconds = make.Histograms("sluice_kv_transfer_seconds", "First to last byte of a copy.");
  auto& size = make.Histograms("sluice_kv_transfer_size_bytes", "Bytes of a copy.");
  auto& queued =
      make.Histograms("sluice_kv_transfer_queue_seconds", "Wait of a copy for the link.");
  for (const LinkEnds& ends : LinkEndsWith(storage)) {
    const Labels at = {{"src", ends.source}, {"dst", ends.target}};
    links_.push_back({&ops.Add(With(at, "outcome", "ok")), &ops.Add(With(at, "outcome", "failed")),
                      &ops.Add(With(at, "outcome", "cancelled")), &in_flight.Add(at),
                      &seconds.Add(at, buckets::kCopySeconds), &size.Add(at, buckets::kCopyBytes),
                      &queued.Add(at, buckets::kCopySeconds)});
  }
}

void StepSeries::Observe(absl::Duration wall, int64_t ahead) {
  idle_phase_.Follow(InSeconds(wall) - phase_total_);
  steps_ahead_.Follow(static_cast<double>(ahead));
}

void StepSeries::OnStep(const StepPlan& plan, const StepResult& result) {
  bool prefill = false, decode = false;
  double tokens = 0;
  for (const SequenceWork& work : plan.sequences) {
    (work.first < work.prompt ? prefill : decode) = true;
    tokens += AsDouble(work.count);
  }
  const double stall = InSeconds(result.load_stall);
  const double took = InSeconds(result.finished - result.started);
  tokens_.Increment(tokens);
  steps_.Increment();
  step_tokens_.Observe(tokens);
  step_seconds_.Observe(took);
  phase_[prefill && decode ? 2 : prefill ? 0 : 1]->Increment(std::max(0.0, took - stall));
  phase_[3]->Increment(stall);
  phase_total_ += took;
}

void StepSeries::OnCopiesStarted(LinkDirection direction, int64_t count) {
  links_[static_cast<size_t>(direction)].in_flight->Increment(static_cast<double>(count));
}

void StepSeries::OnCopy(LinkDirection direction, const CopyResult& result, absl::Duration queued) {
  const Link& link = links_[static_cast<size_t>(direction)];
  link.in_flight->Decrement();
  if (!result.status.ok()) {
    (absl::IsCancelled(result.status) ? link.cancelled : link.failed)->Increment();
    return;
  }
  link.ok->Increment();
  link.seconds->Observe(InSeconds(result.finished - result.started));
  link.size->Observe(static_cast<double>(result.bytes.value()));
  link.queued->Observe(InSeconds(queued));
}

}  // namespace sluice
