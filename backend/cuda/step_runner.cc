#include "backend/cuda/step_runner.h"

#include <algorithm>
#include <utility>

#include "backend/cuda/forward/step_tables.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {

StepRunner::StepRunner(const Parts& parts, Tokens tokens_per_block, int32_t vocab)
    : parts_(parts),
      tokens_per_block_(tokens_per_block.value()),
      control_(parts.account),
      results_(parts.account),
      sampler_(Forward::kLogitRows, vocab) {}

absl::Status StepRunner::Run(const StepPlan& plan, StepResult& result) {
  if (parts_.health.lost()) return parts_.health.status();
  if (plan.sequences.empty()) return absl::OkStatus();
  Gather(plan);
  SLUICE_RETURN_IF_ERROR(Drain(Enqueue(plan, result), result));
  TakeTokens(result);
  return absl::OkStatus();
}

void StepRunner::Gather(const StepPlan& plan) {
  sequences_.clear();
  loading_.clear();
  drawing_.clear();
  inputs_.clear();
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const SequenceWork& work = plan.sequences[i];
    sequences_.push_back({work.tokens.subspan(work.first.size(), work.count.size()),
                          work.first.value(), work.blocks, work.sample, work.host_blocks});
    if (!work.loads.empty()) loading_.push_back(i);
    if (!work.sample) continue;
    drawing_.push_back(i);
    inputs_.push_back({work.sampling, work.tokens.first((work.first + work.count).size()),
                       work.prompt.value(), work.output_index});
  }
}

absl::Status StepRunner::Enqueue(const StepPlan& plan, StepResult& result) {
  control_.Clear();
  results_.Clear();
  const StepTables tables =
      LayOutStep(sequences_, tokens_per_block_, parts_.forward.attention(), control_);
  sampler_.Prepare(inputs_, control_, results_);
  SLUICE_RETURN_IF_ERROR(results_.Reserve());
  SLUICE_RETURN_IF_ERROR(control_.Upload(parts_.stream));
  SLUICE_RETURN_IF_ERROR(parts_.forward.Run(
      tables, control_, [&](int layer) { return WaitForLoads(plan, layer, result); }));
  SLUICE_RETURN_IF_ERROR(Draw(tables));
  return results_.Download(parts_.stream);
}

// Makes the stream wait for `layer` of every load. A failed load fails its sequence; the others go
// on, and the failed one's rows come along for nothing.
absl::Status StepRunner::WaitForLoads(const StepPlan& plan, int layer, StepResult& result) {
  for (const size_t i : loading_) {
    absl::Status& status = result.sequences[i].status;
    if (status.ok()) status = WaitForLoad(plan, i, layer);
  }
  return parts_.health.status();
}

absl::Status StepRunner::WaitForLoad(const StepPlan& plan, size_t sequence, int layer) {
  const std::span<const CopyId> loads = plan.sequences[sequence].loads;
  const auto wait = [&] { return parts_.link.WaitForLayer(parts_.stream, loads, layer); };
  const bool settled = std::all_of(loads.begin(), loads.end(),
                                   [&](CopyId load) { return parts_.link.Settled(load, layer); });
  return settled ? wait() : parts_.stalls.Watch(parts_.stream, sequence, wait);
}

absl::Status StepRunner::Draw(const StepTables& tables) {
  for (int32_t group = 0; group < sampler_.groups(); ++group) {
    SLUICE_ASSIGN_OR_RETURN(
        float* const logits,
        parts_.forward.Logits(tables, control_, sampler_.first(group), sampler_.count(group)));
    SLUICE_RETURN_IF_ERROR(sampler_.Draw(group, logits, control_, results_, parts_.stream));
  }
  return absl::OkStatus();
}

// Waits until nothing of the step runs any more, whatever has become of it.
absl::Status StepRunner::Drain(absl::Status status, StepResult& result) {
  const absl::Status device =
      parts_.health.Note(cudaStreamSynchronize(parts_.stream), "a step on the device");
  for (const StallWatch::Stall& stall : parts_.stalls.Finish()) {
    result.sequences[stall.sequence].load_stall += stall.time;
    result.load_stall += stall.time;
  }
  if (parts_.health.lost()) return parts_.health.status();
  return status.ok() ? device : status;
}

void StepRunner::TakeTokens(StepResult& result) const {
  for (size_t i = 0; i < drawing_.size(); ++i) {
    SequenceResult& sequence = result.sequences[drawing_[i]];
    if (!sequence.status.ok()) continue;
    absl::StatusOr<SampledToken> sampled = sampler_.Take(i, results_);
    if (sampled.ok()) {
      sequence.sampled = *std::move(sampled);
    } else {
      sequence.status = sampled.status();
    }
  }
}

}  // namespace sluice::cuda
