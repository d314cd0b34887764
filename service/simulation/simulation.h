// Simulation: a workload on a scheduler and a simulated machine, in virtual time. The engine loop
// is the one that serves live requests; only the clock and the backend are different.
//
//   arrivals -> EngineLoop::RunOnce() -> SimBackend (moves the clock) -> Books
//                    nothing to do: on to the next arrival, copy end or deadline
//
// Deterministic: the same arguments give the same result, bit for bit.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/activity.h"
#include "backend/sim/sim_options.h"
#include "scheduler/options.h"
#include "scheduler/stats.h"
#include "service/simulation/distribution.h"
#include "service/simulation/request_record.h"
#include "service/simulation/timeline.h"
#include "service/workload/trace_request.h"

namespace sluice {

struct SimulationOptions {
  SchedulerOptions scheduler;  // what the scheduler believes and how it decides
  SimOptions machine;          // what is true; its observer is not used
  // How many requests from the middle of the workload the window shows.
  int64_t window_requests = 16;
};

struct SimulationResult {
  std::vector<RequestRecord> requests;  // in the order of the workload
  Distribution token_gaps;              // seconds
  SchedulerStats scheduler;
  ActivitySnapshot activity;
  absl::Duration exposed;  // SimActivity::exposed
  std::vector<UsageSample> usage;
  // The window: requests [window_first, window_last) of the workload.
  size_t window_first = 0;
  size_t window_last = 0;
  std::vector<WindowRecorder::Step> window_steps;
  std::vector<WindowRecorder::Move> window_moves;
};

// Runs `requests` (sorted by arrival) until the last one has ended. `progress`, if given, is called
// now and then with the number of requests that have ended; false stops with CANCELLED.
// Returns INVALID_ARGUMENT naming the option out of range; INTERNAL if requests are left and
// nothing would ever happen again, which is a fault of the scheduler.
absl::StatusOr<SimulationResult> Simulate(const std::vector<TraceRequest>& requests,
                                          const SimulationOptions& options,
                                          const std::function<bool(int64_t ended)>& progress = {});

}  // namespace sluice
