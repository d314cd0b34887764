// Longest prefix match, SGLang's cache-aware order (Zheng et al., SGLang, NeurIPS 2024;
// managers/schedule_policy.py _sort_by_longest_prefix): most cached tokens on device and host
// first, first come first served above 128 waiting. Requests that would hit more if they waited go
// last (BetterLater). No aging: cold requests starve under hot traffic (SGLang #31954).
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

class LpmPolicy final : public LayerwisePolicy {
 public:
  const char* name() const override { return "lpm"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    const bool sorts = waiting.size() <= kLongQueue;
    const auto key = [sorts](const WaitingView& w) {
      if (!sorts) return 0.0;
      return BetterLater(w) ? 1.0 : -AsDouble(w.on_device + w.on_host);
    };
    return Load(FirstBy(machine, waiting, Misfit::kHoldsBack, key), Decision::kWaitBlocks);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeLpmPolicy(const PolicyOptions&) {
  return std::make_unique<LpmPolicy>();
}

}  // namespace sluice
