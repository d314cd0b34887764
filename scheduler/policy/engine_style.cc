#include "scheduler/policy/engine_style.h"

#include "scheduler/policy/step_forming.h"

namespace sluice {

void BudgetedPolicy::OnAdmitted(const MachineView&, const WaitingView& request,
                                const Choice& choice) {
  budget_.OnAdmitted(request, choice);
}

void ParkingPolicy::FormStep(const MachineView& machine, std::span<const RunningView> running,
                             std::vector<StepShare>* shares) {
  FormParkingStep(machine, running, shares);
  NoteStep(running, *shares);
}

void LayerwisePolicy::FormStep(const MachineView& machine, std::span<const RunningView> running,
                               std::vector<StepShare>* shares) {
  FormBatchStep(machine, running, shares);
  NoteStep(running, *shares);
}

bool BetterLater(const WaitingView& w) {
  constexpr Tokens kThreshold{32};
  return w.on_device <= kThreshold && w.pending >= kThreshold;
}

}  // namespace sluice
