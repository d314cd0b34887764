// SimBackend: the cost model as a device, in virtual time. Run() returns at once and moves the
// clock on to the end of the step; whoever drives the engine moves it on while nothing runs.
//
//   while (…) {
//     if (!loop.RunOnce()) clock.AdvanceTo(std::min(next arrival, backend.next_event(), …));
//   }
//
// Thread-compatible, unlike other backends: one thread drives everything.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/backend.h"
#include "backend/sim/output_oracle.h"
#include "backend/sim/sim_clock.h"
#include "backend/sim/sim_machine.h"
#include "backend/sim/sim_options.h"

namespace sluice {

class SimBackend final : public Backend {
 public:
  // `clock` must outlive it. Returns INVALID_ARGUMENT naming the option out of range.
  static absl::StatusOr<std::unique_ptr<SimBackend>> Create(const SimOptions& options,
                                                            SimClock& clock);

  const BackendInfo& info() const override { return machine_.info(); }
  // Kept and not called: nothing happens here while the caller waits.
  void SetCopyListener(std::function<void()> on_done) override { on_done_ = std::move(on_done); }
  void StartCopies(std::span<const Copy> copies) override;
  void RevokeCopies(std::span<const CopyId> copies) override;
  std::vector<CopyResult> TakeFinishedCopies() override;
  StepResult Run(const StepPlan& plan) override;
  ActivitySnapshot activity() override;

  // When a copy moves on by itself; InfiniteFuture if none is under way.
  absl::Time next_event() { return machine_.link().next_event(); }
  // Time the device waited for loads (SimActivity::exposed).
  absl::Duration exposed() const { return machine_.activity().exposed(); }
  // The lengths of the answers.
  OutputOracle& oracle() { return machine_.oracle(); }

 private:
  SimBackend(const SimOptions& options, SimClock& clock)
      : clock_(clock), machine_(options, clock.now()) {}

  SimClock& clock_;
  SimMachine machine_;
  std::function<void()> on_done_;
};

}  // namespace sluice
