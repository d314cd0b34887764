// Our policy: schedules the link as a resource beside compute and device memory.
//
//   order      least weighted work first: load, compute and memory-seconds a request adds, each
//              worth as much as it is scarce (Pressure), divided by age and tenant share
//   plans      resident, load, split, in place, recompute: the cheapest at present prices
//   pairing    a resource with `lookahead` of work queued takes no more; a request that mainly
//              needs the other one is admitted beside it, so cumulative slack stays near zero
//   bound      whoever has waited past overdue_at goes first, and nobody passes it:
//              overdue_at = arrival + patience + 2 x time the work ahead on arrival takes
//   fairness   dominant share per tenant over (device, link, memory), decaying, weighted
//   joins      who needs what another request is computing waits for it instead
//   decode     prompt chunks leave room for tpot_target; tokens under the step's floor are free
//
// Algorithm: algorithms.md section 4. Weighted shortest processing time: Smith 1956; dominant
// shares: Ghodsi et al. 2011.
#pragma once

#include <memory>

#include "scheduler/policy/policy.h"
#include "scheduler/policy_options.h"

namespace sluice {

std::unique_ptr<Policy> MakeSlackPolicy(const PolicyOptions& options);

}  // namespace sluice
