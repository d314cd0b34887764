#include "backend/sim/sim_backend.h"

#include "scheduler/base/status_macros.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<SimBackend>> SimBackend::Create(const SimOptions& options,
                                                               SimClock& clock) {
  SLUICE_RETURN_IF_ERROR(options.Validate());
  return std::unique_ptr<SimBackend>(new SimBackend(options, clock));
}

void SimBackend::StartCopies(std::span<const Copy> copies) {
  machine_.link().Start(copies, clock_.now());
}

void SimBackend::RevokeCopies(std::span<const CopyId> copies) {
  machine_.link().Revoke(copies, clock_.now());
}

std::vector<CopyResult> SimBackend::TakeFinishedCopies() {
  machine_.link().AdvanceTo(clock_.now());
  return machine_.link().TakeFinished();
}

StepResult SimBackend::Run(const StepPlan& plan) {
  StepResult result = machine_.Run(plan, clock_.now());
  clock_.AdvanceTo(result.finished);
  return result;
}

ActivitySnapshot SimBackend::activity() {
  machine_.link().AdvanceTo(clock_.now());
  return machine_.activity().snapshot();
}

}  // namespace sluice
