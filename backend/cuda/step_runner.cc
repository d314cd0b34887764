#include "backend/cuda/step_runner.h"

#include <algorithm>
#include <utility>

#include "backend/cuda/forward/step_tables.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {

StepRunner::StepRunner(const Parts& parts, Tokens tokens_per_block, int32_t vocab)
    : parts_(parts),
      tokens_per_block_(tokens_per_block.value()),
      slots_{Slot(parts.account, vocab), Slot(parts.account, vocab)} {}

StepRunner::~StepRunner() {
  while (waited_ < launched_) (void)Drain(SlotOf(waited_++));
}

void StepRunner::Launch(const StepPlan& plan, absl::Status ready) {
  SLUICE_CHECK(launched_ - waited_ < kMaxInFlight);
  Slot& slot = SlotOf(launched_++);
  slot.result = StepResult();
  slot.result.id = plan.id;
  slot.result.sequences.resize(plan.sequences.size());
  slot.result.status = std::move(ready);
  slot.drawing.clear();
  slot.draws.assign(plan.sequences.size(), -1);
  parts_.stalls.Begin();
  if (slot.result.status.ok()) {
    slot.result.status = Start(plan, SlotOf(launched_), slot);  // the other one
  }
  slot.watched = parts_.stalls.End(parts_.stream).ok();
}

StepResult StepRunner::Wait() {
  SLUICE_CHECK(waited_ < launched_);
  Slot& slot = SlotOf(waited_++);
  absl::Status& status = slot.result.status;
  status = Drain(slot);
  if (status.ok()) {
    TakeTokens(slot);
  } else {
    slot.result.sequences.clear();
    if (waited_ < launched_ && SlotOf(waited_).result.status.ok()) {
      SlotOf(waited_).result.status = status;
    }
  }
  return std::move(slot.result);
}

absl::Status StepRunner::Start(const StepPlan& plan, const Slot& before, Slot& slot) {
  if (parts_.health.lost()) return parts_.health.status();
  if (waited_ + 1 < launched_) SLUICE_RETURN_IF_ERROR(before.result.status);
  if (plan.sequences.empty()) return absl::OkStatus();
  Gather(plan, before, slot);
  return Enqueue(plan, before, slot);
}

void StepRunner::Gather(const StepPlan& plan, const Slot& before, Slot& slot) {
  slot.sequences.clear();
  slot.unknown.clear();
  slot.unknown.reserve(plan.sequences.size());
  slot.loading.clear();
  slot.inputs.clear();
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const SequenceWork& work = plan.sequences[i];
    std::span<const TokenId> tokens;
    if (work.previous_row >= 0) {
      const int32_t draw = before.draws[static_cast<size_t>(work.previous_row)];
      SLUICE_CHECK(draw >= 0);
      slot.unknown.push_back(-1 - draw);
      tokens = std::span(slot.unknown).last(1);
    } else {
      tokens = work.tokens.subspan(work.first.size(), work.count.size());
    }
    slot.sequences.push_back(
        {tokens, work.first.value(), work.blocks, work.sample, work.host_blocks});
    if (!work.loads.empty()) slot.loading.push_back(i);
    if (!work.sample) continue;
    slot.draws[i] = static_cast<int32_t>(slot.drawing.size());
    slot.drawing.push_back(i);
    const size_t known = std::min(work.tokens.size(), (work.first + work.count).size());
    slot.inputs.push_back(
        {work.sampling, work.tokens.first(known), work.prompt.value(), work.output_index});
  }
}

absl::Status StepRunner::Enqueue(const StepPlan& plan, const Slot& before, Slot& slot) {
  slot.control.Clear();
  slot.results.Clear();
  StepTables tables =
      LayOutStep(slot.sequences, tokens_per_block_, parts_.forward.attention(), slot.control);
  if (!slot.unknown.empty()) tables.drawn = before.results.Device(before.sampler.tokens());
  slot.sampler.Prepare(slot.inputs, slot.control, slot.results);
  SLUICE_RETURN_IF_ERROR(slot.results.Reserve());
  SLUICE_RETURN_IF_ERROR(slot.control.Upload(parts_.stream));
  SLUICE_RETURN_IF_ERROR(parts_.forward.Run(
      tables, slot.control, [&](int layer) { return WaitForLoads(plan, layer, slot); }));
  SLUICE_RETURN_IF_ERROR(Draw(tables, slot));
  return slot.results.Download(parts_.stream);
}

// Makes the stream wait for `layer` of every load. A failed load fails its sequence; the others go
// on, and the failed one's rows come along for nothing.
absl::Status StepRunner::WaitForLoads(const StepPlan& plan, int layer, Slot& slot) {
  for (const size_t i : slot.loading) {
    absl::Status& status = slot.result.sequences[i].status;
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

absl::Status StepRunner::Draw(const StepTables& tables, Slot& slot) {
  TokenSampler& sampler = slot.sampler;
  for (int32_t group = 0; group < sampler.groups(); ++group) {
    SLUICE_ASSIGN_OR_RETURN(
        float* const logits,
        parts_.forward.Logits(tables, slot.control, sampler.first(group), sampler.count(group)));
    SLUICE_RETURN_IF_ERROR(sampler.Draw(group, logits, slot.control, slot.results, parts_.stream));
  }
  return absl::OkStatus();
}

// Waits until nothing of the step runs any more, whatever has become of it.
absl::Status StepRunner::Drain(Slot& slot) {
  const StallWatch::Times times = parts_.stalls.Finish();
  absl::Status device;
  if (!slot.watched || times.error != cudaSuccess) {
    device = parts_.health.Wait([&] { return cudaStreamSynchronize(parts_.stream); },
                                "a step on the device");
  }
  StepResult& result = slot.result;
  result.started = times.started;
  result.finished = times.finished;
  for (const StallWatch::Stall& stall : times.stalls) {
    result.sequences[stall.sequence].load_stall += stall.time;
    result.load_stall += stall.time;
  }
  if (parts_.health.lost()) return parts_.health.status();
  return result.status.ok() ? device : result.status;
}

void StepRunner::TakeTokens(Slot& slot) {
  for (size_t i = 0; i < slot.drawing.size(); ++i) {
    SequenceResult& sequence = slot.result.sequences[slot.drawing[i]];
    if (!sequence.status.ok()) continue;
    absl::StatusOr<SampledToken> sampled = slot.sampler.Take(i, slot.results);
    if (sampled.ok()) {
      sequence.sampled = *std::move(sampled);
    } else {
      sequence.status = sampled.status();
    }
  }
}

}  // namespace sluice::cuda
