// A cautionary one: SGLang's experimental --enable-hicache-loadback-reorder (#38358). Requests
// without a large part on the host go first; those with one are deferred while anything decodes, at
// most 5 s from arrival. Its author measured 1.0 -> 5.2 s for hits and advises against it.
// Deviations: "large" is 1,024 tokens, the source names no number; its further 30 ms of waiting on
// an idle machine are left out, because nothing would wake the engine.
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

constexpr Tokens kLarge{1024};
constexpr Seconds kLongest{5};

class NaiveDeferralPolicy final : public LayerwisePolicy {
 public:
  const char* name() const override { return "naive-deferral"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    const auto key = [&machine](const WaitingView& w) {
      if (w.on_host < kLarge || Waited(machine, w) > kLongest) return 0.0;
      return machine.decoding > 0 ? kNotNow : 1.0;
    };
    return Load(FirstBy(machine, waiting, Misfit::kHoldsBack, key), Decision::kWaitLink);
  }
};

}  // namespace

std::unique_ptr<Policy> MakeNaiveDeferralPolicy(const PolicyOptions&) {
  return std::make_unique<NaiveDeferralPolicy>();
}

}  // namespace sluice
