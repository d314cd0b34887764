// Johnson's rule for the two-machine flow shop (S. M. Johnson, 1954), link first, device second:
// requests that load faster than they compute go first, shortest load first; then the others,
// longest compute first. Least makespan if all are known and memory is free; no regard for waiting,
// so mean time to first token is poor and the middle can starve. Runs as vLLM's engine, loads
// ahead.
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

class JohnsonPolicy final : public ParkingPolicy {
 public:
  const char* name() const override { return "johnson"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    const auto key = [&machine](const WaitingView& w) {
      const Seconds compute = ComputeOf(machine, w);
      // First group: 0 to below 1, rising with the load. Second: 1 to 2, falling with compute.
      return w.load < compute ? 1 - 1 / (1 + w.load.value()) : 1 + 1 / (1 + compute.value());
    };
    return Load(FirstBy(machine, waiting, Misfit::kHoldsBack, key), Decision::kWaitBlocks);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeJohnsonPolicy(const PolicyOptions&) {
  return std::make_unique<JohnsonPolicy>();
}

}  // namespace sluice
