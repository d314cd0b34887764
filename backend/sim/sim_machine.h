// SimMachine: a device and its links as a state machine over virtual time: what a step or a copy
// takes follows from the cost model (scheduler/cost/coefficients.h), time is an argument.
//
//   step   compute = StepEstimate over its sequences x noise
//          end     = start + compute, or later if it waits for loads: layer i of the step starts
//                    when layer i of every load its sequences need is in place
//   copy   LinkScheduler: bandwidth, latency, cost per run, duplex share, classes and ranks
//
// Thread-compatible. Times must not go back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "backend/backend.h"
#include "backend/sim/output_oracle.h"
#include "backend/sim/sim_activity.h"
#include "backend/sim/sim_link.h"
#include "backend/sim/sim_options.h"
#include "scheduler/step.h"

namespace sluice {

class SimMachine {
 public:
  // REQUIRES: options.Validate().ok().
  SimMachine(const SimOptions& options, absl::Time start);

  const BackendInfo& info() const { return info_; }
  OutputOracle& oracle() { return oracle_; }
  SimLink& link() { return link_; }
  const SimActivity& activity() const { return activity_; }

  // The step as it will have been: result.finished lies in the future of `start`, and so do the
  // link and the activity then. REQUIRES: the plan keeps what step.h promises.
  StepResult Run(const StepPlan& plan, absl::Time start);

 private:
  void CheckPlan(const StepPlan& plan) const;
  absl::Duration ComputeTime(const StepPlan& plan) const;
  // Sets status and load_stall of the sequences that have loads. Returns the end of the step.
  absl::Time WaitForLoads(const StepPlan& plan, absl::Duration compute, StepResult* result);
  SampledToken Draw(const SequenceWork& work) const;
  void FillInfo();

  const SimOptions options_;
  BackendInfo info_;
  OutputOracle oracle_;
  SimActivity activity_;
  SimLink link_;
  std::vector<CopyId> loads_;  // scratch
};

}  // namespace sluice
