// First come first served as vLLM v1, but a request that gets no blocks is skipped, where vLLM's
// scan of the queue ends there (`break`; a parked load behind it can then block the engine: vLLM
// #45388, #57841). vLLM itself skips only requests whose load or grammar is not ready, and, as
// proposed in #54348, unschedulable ones when nothing runs. Small requests flow; large ones starve.
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

class VllmFcfsSkipPolicy final : public ParkingPolicy {
 public:
  const char* name() const override { return "vllm-fcfs-skip"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    return Load(
        FirstBy(machine, waiting, Misfit::kIsOvertaken, [](const WaitingView&) { return 0; }),
        Decision::kWaitBlocks);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeVllmFcfsSkipPolicy(const PolicyOptions&) {
  return std::make_unique<VllmFcfsSkipPolicy>();
}

}  // namespace sluice
