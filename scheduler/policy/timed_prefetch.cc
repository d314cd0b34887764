// HiCache's prefetch policy "timeout" (SGLang, mem_cache/hiradix_cache.py can_terminate_prefetch):
// KV on disk is fetched to the host from arrival on; its request waits for that, passed over by
// others, at most 1 s + 0.25 s per 1,024 tokens (SGLang's defaults); what has not come by then is
// computed. Deviations: the time allowed counts the tokens still on the disk, not those at first;
// the scheduler stages only for the oldest, and where reading beats computing.
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

constexpr Seconds kBase{1};
constexpr Seconds kPerKi{0.25};

class TimedPrefetchPolicy final : public LayerwisePolicy {
 public:
  const char* name() const override { return "timed-prefetch"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    const auto key = [&machine](const WaitingView& w) {
      if (w.on_disk == Tokens(0) || w.resumed) return 0.0;
      const Seconds allowed = kBase + kPerKi * (AsDouble(w.on_disk) / 1024);
      return Waited(machine, w) > allowed ? 0.0 : kNotNow;
    };
    return Load(FirstBy(machine, waiting, Misfit::kHoldsBack, key), Decision::kWaitStaging);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeTimedPrefetchPolicy(const PolicyOptions&) {
  return std::make_unique<TimedPrefetchPolicy>();
}

}  // namespace sluice
