// Strata (Xie et al., arXiv 2508.18572, section on scheduling; built on SGLang with HiCache):
// requests whose prefix is being computed are deferred ("delay hit"); a batch takes requests in
// order of arrival as long as its loads stay within its compute, passing over those that would
// tip it; a batch that is load-bound all the same waits while decodes fill the bubble.
// Deviations: times come from the cost model; a batch is what was admitted since the last step.
#include <algorithm>

#include "scheduler/policy/baselines.h"
#include "scheduler/policy/engine_style.h"
#include "scheduler/policy/selection.h"
#include "scheduler/policy/step_forming.h"

namespace sluice {
namespace {

// Tokens under computation from which on a hit counts as delayed; SGLang's in-batch threshold.
constexpr Tokens kDelayHit{32};

class StrataPolicy final : public LayerwisePolicy {
 public:
  const char* name() const override { return "strata"; }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override {
    if (BudgetSpent(machine)) return Pass(Decision::kWaitCompute);
    if (!batch_open_) OpenBatch(machine);
    const bool empty = io_ == Seconds(0) && compute_ == Seconds(0);
    bool unbalanced = false;
    const auto key = [&](const WaitingView& w) {
      if (w.pending >= kDelayHit) return kNotNow;
      if (empty || io_ + w.load <= compute_ + ComputeOf(machine, w)) return 0.0;
      unbalanced = true;
      return kNotNow;
    };
    const std::optional<size_t> first = FirstBy(machine, waiting, Misfit::kHoldsBack, key);
    return Load(first, unbalanced ? Decision::kWaitLink : Decision::kWaitJoin);
  }

  void OnAdmitted(const MachineView& machine, const WaitingView& request,
                  const Choice& choice) override {
    LayerwisePolicy::OnAdmitted(machine, request, choice);
    io_ += request.load;
    compute_ += ComputeOf(machine, request);
  }

  void FormStep(const MachineView& machine, std::span<const RunningView> running,
                std::vector<StepShare>* shares) override {
    batch_open_ = false;
    if (LoadBound(machine, running)) {
      StepFormer step(running, machine.step_token_limit, shares);
      step.AddDecodes();
    }
    if (shares->empty()) FormBatchStep(machine, running, shares);
    NoteStep(running, *shares);
  }

 private:
  // What earlier batches have left over belongs to the next one.
  void OpenBatch(const MachineView& machine) {
    batch_open_ = true;
    io_ = Backlog(machine, LinkDirection::kHostToDevice);
    compute_ = machine.compute_backlog;
  }

  // Whether the batch's loads end later than its compute, so that it would stall if it ran now.
  static bool LoadBound(const MachineView& machine, std::span<const RunningView> running) {
    Seconds loads, compute;
    for (const RunningView& r : running) {
      if (IsDecode(r)) continue;
      loads = std::max(loads, r.load_left);
      compute += PrefillTime(*machine.cost, r.first, r.remaining);
    }
    return loads > compute;
  }

  bool batch_open_ = false;
  Seconds io_;       // of the batch that is being formed
  Seconds compute_;  // of the same
};

}  // namespace

std::unique_ptr<Policy> MakeStrataPolicy(const PolicyOptions&) {
  return std::make_unique<StrataPolicy>();
}

}  // namespace sluice
