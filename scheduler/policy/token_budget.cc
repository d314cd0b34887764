#include "scheduler/policy/token_budget.h"

#include "scheduler/policy/selection.h"
#include "scheduler/policy/step_forming.h"

namespace sluice {

Tokens DueTokens(const WaitingView& request, const Choice& choice) {
  const Tokens uncached = Uncached(request);
  if (request.on_host == Tokens(0)) return uncached;
  switch (choice.plan) {
    case RequestPlan::kSplit:
      return choice.recompute;
    case RequestPlan::kInPlace:
      return uncached;
    case RequestPlan::kRecompute:
      return uncached + request.on_host;
    case RequestPlan::kResident:
    case RequestPlan::kLoad:
      break;
  }
  return Tokens(0);
}

bool TokenBudget::Spent(const MachineView& machine) const {
  if (machine.running == 0) return false;
  // SGLang forms steps of prompts alone: decodes take nothing from them.
  const Tokens decodes(loading_ == Loading::kIsFree ? machine.decoding : 0);
  return decodes + due_ >= machine.step_token_limit;
}

void TokenBudget::OnAdmitted(const WaitingView& request, const Choice& choice) {
  due_ += loading_ == Loading::kIsFree ? DueTokens(request, choice) : Uncached(request);
}

void TokenBudget::OnStepFormed(std::span<const RunningView> running,
                               std::span<const StepShare> shares) {
  const auto due = [this](const RunningView& r) {
    if (IsDecode(r)) return Tokens(0);
    return loading_ == Loading::kIsCharged ? r.remaining : ReadyTokens(r);
  };
  due_ = Tokens(0);
  for (const RunningView& r : running) due_ += due(r);
  for (const StepShare& share : shares) {
    const RunningView& r = running[share.index];
    // What was parked and has joined layer by layer counts from now on.
    due_ += due(r) > Tokens(0) ? Tokens(0) - share.count : r.remaining - share.count;
  }
}

}  // namespace sluice
