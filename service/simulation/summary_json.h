// A simulation as JSON: what scripts read. The same simulation gives the same bytes.
#pragma once

#include <nlohmann/json.hpp>

#include "scheduler/stats.h"
#include "service/simulation/summary.h"

namespace sluice {

// Times in seconds (…_s), energy in joules. Numbers without a limit are null.
//   requests completed rejected failed
//   ttft_s slowdown itl_s {mean p50 p90 p99 max}
//   makespan_s bound_s link_work_s compute_work_s link_busy_s device_busy_s exposed_link_s
//   link_busy_by_direction_s {host_to_device device_to_host disk_to_host host_to_disk}
//   max_wait_s wait_bound_s beyond_wait_bound
//   jain contended_windows dominant_share [by tenant] energy_j
//   cached_tokens {device host disk remote} computed_tokens recomputed_tokens output_tokens
//   decisions {reason: count} ttft_prediction_error
//   kappa [{range requests ttft_mean_s ttft_p99_s slowdown_mean}]
nlohmann::ordered_json SummaryJson(const Summary& summary, const SchedulerStats& stats);

}  // namespace sluice
