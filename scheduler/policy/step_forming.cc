#include "scheduler/policy/step_forming.h"

#include <algorithm>

namespace sluice {
namespace {

bool SubsetOf(std::span<const CopyId> some, std::span<const CopyId> all) {
  return std::all_of(some.begin(), some.end(),
                     [&](CopyId id) { return std::find(all.begin(), all.end(), id) != all.end(); });
}

}  // namespace

bool IsDecode(const RunningView& r) { return r.loads.empty() && r.remaining == Tokens(1); }

Tokens ReadyTokens(const RunningView& r) {
  return r.loads.empty() ? r.remaining : std::min(r.before_loads, r.remaining);
}

bool CanJoin(const RunningView& r) {
  return !r.loads.empty() && r.before_loads == Tokens(0) && r.joinable;
}

void StepFormer::Limit(Tokens most) { left_ = std::min(left_, most); }

Tokens StepFormer::Add(size_t index, Tokens count) {
  const Tokens taken = std::min(left_, count);
  if (taken <= Tokens(0)) return Tokens(0);
  shares_->push_back({index, taken});
  left_ -= taken;
  return taken;
}

Tokens StepFormer::AddReady(size_t index, Tokens most) {
  return Add(index, std::min(most, ReadyTokens(running_[index])));
}

Tokens StepFormer::AddJoining(size_t index, Tokens most) {
  const RunningView& r = running_[index];
  return CanJoin(r) ? Add(index, std::min(most, r.remaining)) : Tokens(0);
}

void StepFormer::AddDecodes() {
  for (size_t i = 0; i < running_.size(); ++i) {
    if (IsDecode(running_[i])) AddReady(i);
  }
}

void StepFormer::AddPrefills() {
  for (size_t i = 0; i < running_.size(); ++i) {
    if (!IsDecode(running_[i])) AddReady(i);
  }
}

void StepFormer::AddPrefills(std::span<const size_t> order) {
  for (const size_t i : order) {
    if (!IsDecode(running_[i])) AddReady(i);
  }
}

void StepFormer::AddBatch() {
  for (size_t i = 0; i < running_.size(); ++i) {
    if (running_[i].decoding && IsDecode(running_[i])) continue;
    if (AddReady(i) == Tokens(0)) AddJoining(i);
  }
}

void StepFormer::JoinOldest() {
  const auto oldest = std::find_if(running_.begin(), running_.end(), CanJoin);
  for (auto it = oldest; it != running_.end(); ++it) {
    if (SubsetOf(it->loads, oldest->loads)) AddJoining(static_cast<size_t>(it - running_.begin()));
  }
}

void FormParkingStep(const MachineView& machine, std::span<const RunningView> running,
                     std::vector<StepShare>* shares) {
  StepFormer step(running, machine.step_token_limit, shares);
  step.AddDecodes();
  step.AddPrefills();
  if (step.empty()) step.JoinOldest();
}

void FormBatchStep(const MachineView& machine, std::span<const RunningView> running,
                   std::vector<StepShare>* shares) {
  StepFormer step(running, machine.step_token_limit, shares);
  step.AddBatch();
  if (step.empty()) step.AddDecodes();
}

}  // namespace sluice
