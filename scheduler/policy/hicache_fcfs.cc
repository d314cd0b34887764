// First come first served as SGLang with HiCache: prompts in batches of their own, before decodes;
// loads start with the batch and overlap with it layer by layer (sgl-project/sglang,
// managers/schedule_policy.py PrefillAdder, mem_cache/hiradix_cache.py). The first that does not
// fit ends the batch. What is still on the disk is computed (prefetch policy best_effort).
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

class HicacheFcfsPolicy final : public LayerwisePolicy {
 public:
  const char* name() const override { return "hicache-fcfs"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    return Load(FirstBy(machine, waiting, Misfit::kHoldsBack, [](const WaitingView&) { return 0; }),
                Decision::kWaitBlocks);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeHicacheFcfsPolicy(const PolicyOptions&) {
  return std::make_unique<HicacheFcfsPolicy>();
}

}  // namespace sluice
