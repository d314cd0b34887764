// Bidaw (Hu et al., FAST 2026): one queue for requests whose KV is in host memory or closer, served
// in order of the size of the KV to load, smallest first, so that large loads block no small ones;
// another for those with KV on the SSD, fetched to the host in the background, which then join it.
// Deviations: the scheduler stages in order of arrival, where reading beats computing; who is not
// being staged goes as it is, its disk part computed. The paper's eviction is not part of a policy.
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

class BidawPolicy final : public ParkingPolicy {
 public:
  const char* name() const override { return "bidaw"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    const bool disk_rests = Backlog(machine, LinkDirection::kDiskToHost) == Seconds(0);
    const auto key = [&](const WaitingView& w) {
      const bool given_up = disk_rests && Waited(machine, w) > w.stage;
      const bool is_fetched = w.on_disk > Tokens(0) && w.stage < w.recompute && !given_up;
      return is_fetched ? kNotNow : AsDouble(w.on_host);
    };
    return Load(FirstBy(machine, waiting, Misfit::kHoldsBack, key), Decision::kWaitStaging);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeBidawPolicy(const PolicyOptions&) {
  return std::make_unique<BidawPolicy>();
}

}  // namespace sluice
