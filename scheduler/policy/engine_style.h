// The two ways engines run what they have admitted. A baseline derives from the one its source is
// built on and adds the order of admission.
//
// Thread-compatible.
#pragma once

#include <span>
#include <vector>

#include "scheduler/policy/policy.h"
#include "scheduler/policy/token_budget.h"

namespace sluice {

// Admission while tokens of the next step are left (TokenBudget); what both engines have in common.
class BudgetedPolicy : public Policy {
 public:
  void OnAdmitted(const MachineView& machine, const WaitingView& request,
                  const Choice& choice) override;

 protected:
  explicit BudgetedPolicy(TokenBudget::Loading loading) : budget_(loading) {}

  bool BudgetSpent(const MachineView& machine) const { return budget_.Spent(machine); }
  // To be called at the end of FormStep.
  void NoteStep(std::span<const RunningView> running, std::span<const StepShare> shares) {
    budget_.OnStepFormed(running, shares);
  }

 private:
  TokenBudget budget_;
};

// vLLM v1 (vllm/v1/core/sched/scheduler.py): running requests first, decodes and prompt chunks in
// one step; admission while tokens of the step are left. A request with KV to load starts its load
// at once and is parked, free of charge, so loads run ahead of compute.
// Deviation: a step that would be empty joins the oldest load layer by layer; vLLM idles.
class ParkingPolicy : public BudgetedPolicy {
 public:
  void FormStep(const MachineView& machine, std::span<const RunningView> running,
                std::vector<StepShare>* shares) override;

 protected:
  ParkingPolicy() : BudgetedPolicy(TokenBudget::Loading::kIsFree) {}
};

// SGLang with HiCache (managers/scheduler.py, mem_cache/hiradix_cache.py): one batch of prompts at
// a time, in steps of its own, before any decode; its loads start when the batch does and overlap
// with it layer by layer, so no load runs ahead of compute.
class LayerwisePolicy : public BudgetedPolicy {
 public:
  void FormStep(const MachineView& machine, std::span<const RunningView> running,
                std::vector<StepShare>* shares) override;

 protected:
  LayerwisePolicy() : BudgetedPolicy(TokenBudget::Loading::kIsCharged) {}
};

// The part of SGLang's LPM, HRRN and shortest-prefill-first that puts requests last whose prefix
// will be cached if they wait (IN_BATCH_PREFIX_CACHING_*_THRESHOLD in schedule_policy.py).
// Deviation: SGLang looks for shared prefixes within the queue, which views do not show; here it is
// the prefix that a running request computes.
bool BetterLater(const WaitingView& w);

// Queue length above which SGLang's LPM and HRRN fall back to first come first served.
inline constexpr size_t kLongQueue = 128;

}  // namespace sluice
