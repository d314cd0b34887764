// First come first served as vLLM v1 orders work (vllm/v1/core/sched/scheduler.py): decodes and
// prompt chunks of running requests first, then admissions while tokens of the step are left; a
// request whose blocks cannot be allocated ends the scan (`break`). Cached KV is always loaded; a
// request whose loads are under way is parked and charged nothing (asynchronous KV connector).
// Deviations: ParkingPolicy's, and the whole need is reserved, so nothing is preempted for blocks.
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

class FcfsPolicy final : public ParkingPolicy {
 public:
  const char* name() const override { return "fcfs"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    return Load(FirstBy(machine, waiting, Misfit::kHoldsBack, [](const WaitingView&) { return 0; }),
                Decision::kWaitBlocks);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeFcfsPolicy(const PolicyOptions&) {
  return std::make_unique<FcfsPolicy>();
}

}  // namespace sluice
