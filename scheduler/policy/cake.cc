// Cake (Jin et al., ICML 2025, arXiv 2410.03065; built on vLLM): each request in order of arrival
// computes its cached prefix from the front while it is loaded from the back, until both meet.
// Deviation: the meeting point is fixed on admission, from the cost model and both queues, where
// Cake finds it as it goes. Greedy per request: it spends the shared device to spare the link.
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

class CakePolicy final : public ParkingPolicy {
 public:
  const char* name() const override { return "cake"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    Verdict verdict =
        Load(FirstBy(machine, waiting, Misfit::kHoldsBack, [](const WaitingView&) { return 0; }),
             Decision::kWaitBlocks);
    if (verdict.choice.has_value())
      Split(machine, waiting[verdict.choice->index], &*verdict.choice);
    return verdict;
  }

 private:
  static void Split(const MachineView& machine, const WaitingView& w, Choice* choice) {
    const Tokens meet = MeetingPoint(machine, w);
    if (meet == Tokens(0)) return;
    choice->plan = RequestPlan::kSplit;
    choice->recompute = meet;
  }

  // Fewest tokens of the host part whose computation takes as long as loading the others.
  static Tokens MeetingPoint(const MachineView& machine, const WaitingView& w) {
    const auto loaded_by_then = [&](Tokens computed) {
      const double share = AsDouble(w.on_host - computed) / AsDouble(w.on_host);
      const Seconds load = Backlog(machine, LinkDirection::kHostToDevice) + w.load * share;
      const Seconds compute =
          machine.compute_backlog + PrefillTime(*machine.cost, w.on_device, computed);
      return load <= compute;
    };
    int64_t low = 0, high = w.on_host.value();  // the answer, as far as there is one
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (loaded_by_then(Tokens(middle))) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return Tokens(low);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeCakePolicy(const PolicyOptions&) {
  return std::make_unique<CakePolicy>();
}

}  // namespace sluice
