// SimActivity: how a simulated machine spent its time, exactly. ActivityMeter's four states, kept
// by whoever knows the future: when a step is booked, its end is known already.
//
// Thread-compatible.
#pragma once

#include <array>

#include "absl/time/time.h"
#include "backend/activity.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/cost/measure.h"
#include "scheduler/step.h"

namespace sluice {

class SimActivity {
 public:
  explicit SimActivity(absl::Time start) : last_(start) {}

  // Books the time since the last call. REQUIRES: not before it.
  void AdvanceTo(absl::Time now);

  // At the time of the last AdvanceTo():
  void BeginStep();
  // `stall`: the part of the step in which the device waited for loads. A transfer was under way
  // then, hence it turns from "both" into "transfer only".
  void EndStep(absl::Duration stall);
  void QueueTransfer(LinkDirection direction, Bytes bytes);
  // `awaited`: a request waits for it.
  void BeginTransfer(LinkDirection direction, bool awaited);
  // The end of a copy of `bytes`; `begun`: BeginTransfer() was called for it.
  void EndTransfer(LinkDirection direction, bool awaited, Bytes bytes, bool begun, bool ok);

  // Time in which the device computed nothing while a copy was under way that a request waited for:
  // between steps, and stalls within.
  absl::Duration exposed() const { return exposed_; }

  // Up to the last AdvanceTo(); during a step, up to its start.
  const ActivitySnapshot& snapshot() const { return in_step_ ? before_step_ : total_; }

 private:
  absl::Time last_;
  bool in_step_ = false;
  std::array<int, kLinkDirectionCount> moving_{};
  int awaited_ = 0;
  absl::Duration exposed_;
  ActivitySnapshot total_;
  ActivitySnapshot before_step_;
};

// What the machine took in that time: compute_power while computing and idle_power otherwise,
// transfer_power on top while any link is busy.
Joules EnergyOf(const CostCoefficients& cost, const ActivitySnapshot& activity);

}  // namespace sluice
