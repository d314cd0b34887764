// Highest response ratio next (Brinch Hansen, 1971), as in SGLang (managers/schedule_policy.py
// _sort_by_hrrn): largest waited / service time first, where service is the prefill of uncached
// tokens; first come first served above 128 waiting; BetterLater as in LPM.
// Deviation: SGLang measures both in prefill tokens, which is the same at constant throughput; a
// policy learns no arrivals, so here both are seconds. The load's time counts in neither.
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

class HrrnPolicy final : public LayerwisePolicy {
 public:
  const char* name() const override { return "hrrn"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    const bool sorts = waiting.size() <= kLongQueue;
    const auto key = [&machine, sorts](const WaitingView& w) {
      if (!sorts) return 0.0;
      if (BetterLater(w)) return 1.0;
      const Seconds service = ComputeOf(machine, w);
      if (service <= Seconds(0)) return std::numeric_limits<double>::lowest();
      return -(Waited(machine, w) / service);
    };
    return Load(FirstBy(machine, waiting, Misfit::kHoldsBack, key), Decision::kWaitBlocks);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeHrrnPolicy(const PolicyOptions&) {
  return std::make_unique<HrrnPolicy>();
}

}  // namespace sluice
