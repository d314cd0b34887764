// KVPR (Jiang et al., arXiv 2411.17089): the same share of every cached prefix is recomputed while
// the rest is loaded, the share at which both take equally long by the profiled hardware rates:
// load per token / (load per token + compute per token). Static: neither queues, context nor load.
// Deviations: KVPR recomputes K and V from stored activations while decoding on a throughput
// system; here it is the prefix's prefill, on admission, in order of arrival, on vLLM's engine.
#include <algorithm>
#include <cmath>

#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

class KvprPolicy final : public ParkingPolicy {
 public:
  const char* name() const override { return "kvpr"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    Verdict verdict =
        Load(FirstBy(machine, waiting, Misfit::kHoldsBack, [](const WaitingView&) { return 0; }),
             Decision::kWaitBlocks);
    if (!verdict.choice.has_value()) return verdict;
    const WaitingView& w = waiting[verdict.choice->index];
    if (w.on_host == Tokens(0)) return verdict;
    verdict.choice->plan = RequestPlan::kSplit;
    verdict.choice->recompute = SplitOf(machine, w);
    return verdict;
  }

 private:
  static Tokens SplitOf(const MachineView& machine, const WaitingView& w) {
    const Seconds load = w.load / AsDouble(w.on_host);
    const double share = load / (load + machine.cost->per_token);
    return std::min(w.on_host, Tokens(std::llround(share * AsDouble(w.on_host))));
  }
};

}  // namespace

std::unique_ptr<Policy> MakeKvprPolicy(const PolicyOptions&) {
  return std::make_unique<KvprPolicy>();
}

}  // namespace sluice
