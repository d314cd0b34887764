// Contenders: what a comparison runs, by name. A policy of the scheduler, or a reference to measure
// policies by:
//   offload-off    nothing but the device pool: what offloading must not be worse than
//   all-resident   a device pool that holds everything, so that no load is ever needed: what
//                  offloading cannot beat
// Both run the policy they are named with ("fcfs@offload-off"), or else the default one.
//
// Values; pure functions.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "service/simulation/simulation.h"
#include "service/workload/trace_request.h"

namespace sluice {

struct Contender {
  enum class Mode { kPolicy, kOffloadOff, kAllResident };

  std::string label;   // as typed
  std::string policy;  // of the scheduler
  Mode mode = Mode::kPolicy;
};

// `list` is "all" (every policy and both references) or names with commas between them; none twice.
// Returns INVALID_ARGUMENT naming what is unknown and what there is.
absl::StatusOr<std::vector<Contender>> ParseContenders(const std::string& list);

// `options` for this contender.
SimulationOptions OptionsFor(const Contender& contender, const SimulationOptions& options,
                             const std::vector<TraceRequest>& requests);

}  // namespace sluice
