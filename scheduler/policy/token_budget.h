// TokenBudget: whether the next step has room for another prompt, as vLLM and SGLang decide it.
// Both admit while tokens of the step's limit are left; so a request that waits for compute waits
// in the queue, where order still matters, and not among the admitted.
//
// vLLM asks when the step is formed. Here admission comes first, so the budget remembers what the
// last step left over. Deviation: a load that ends in between makes its request's tokens due
// without being counted until the step after.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <span>

#include "scheduler/policy/policy.h"

namespace sluice {

class TokenBudget {
 public:
  // What a request whose loads are under way takes from the budget.
  enum class Loading {
    kIsFree,     // parked until they have ended (vLLM)
    kIsCharged,  // it is part of the next step, layer by layer (SGLang)
  };
  explicit TokenBudget(Loading loading) : loading_(loading) {}

  // Whether running requests take all of the next step. Never if nothing runs.
  bool Spent(const MachineView& machine) const;

  // To be called from the policy's functions of the same name, the second at the end.
  void OnAdmitted(const WaitingView& request, const Choice& choice);
  void OnStepFormed(std::span<const RunningView> running, std::span<const StepShare> shares);

 private:
  Loading loading_;
  Tokens due_;  // prefill tokens of admitted requests that could be in the next step
};

// Prompt tokens that a request admitted by `choice` can compute before any load of it has ended.
Tokens DueTokens(const WaitingView& request, const Choice& choice);

}  // namespace sluice
