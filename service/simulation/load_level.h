// LoadLevel: how fast requests must come to keep a machine as busy as asked.
//
// Pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/options.h"
#include "service/simulation/simulation.h"
#include "service/simulation/work.h"
#include "service/workload/trace_request.h"

namespace sluice {

// Work of the workload if every prompt is found in the tiers as an LRU cache of their size would
// have it, all of what is off the device is loaded, and steps are packed as well as device memory
// allows (WorkOf). Neither policy nor order enter, so real runs need more: they miss what was
// evicted for requests that run at the same time, and pack less well.
Work EstimateWork(const std::vector<TraceRequest>& requests, const SchedulerOptions& options);

// The factor by which arrivals must speed up so that the machine's bottleneck, whichever it is, is
// busy for `utilization` of the time: that share of the rate at which the machine ends requests
// when they come twice as fast as EstimateWork() says it can bear. Measured by a run under `fcfs`
// (as vLLM, everything that is cached gets loaded) of the first requests, at most kPilotRequests of
// them. `progress` as for Simulate().
// Returns INVALID_ARGUMENT if all requests arrive at once, and the errors of Simulate().
absl::StatusOr<double> RateScaleFor(const std::vector<TraceRequest>& requests,
                                    const SimulationOptions& options, double utilization,
                                    const std::function<bool(int64_t ended)>& progress = {});
inline constexpr int64_t kPilotRequests = 10000;

// Divides all arrivals. REQUIRES: factor > 0.
void ScaleRate(double factor, std::vector<TraceRequest>* requests);

}  // namespace sluice
