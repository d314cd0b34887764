// RequestRecord: what became of one request of a simulation. Times are seconds since the start of
// the workload, as plain numbers: these go into statistics.
//
// Values.
#pragma once

#include <array>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "scheduler/base/units.h"
#include "scheduler/stats.h"

namespace sluice {

inline constexpr double kNotYet = std::numeric_limits<double>::infinity();

struct RequestRecord {
  double arrival = 0;  // when the client sent it; the engine may have been in a step then
  double queued = 0;   // when the scheduler got it
  double admitted = kNotYet;
  double first_token = kNotYet;
  double last_token = kNotYet;
  double finished = kNotYet;

  bool ended = false;
  FinishReason reason = FinishReason::kError;
  absl::StatusCode code = absl::StatusCode::kOk;
  bool refused = false;  // never queued

  int32_t tenant = 0;
  int32_t preemptions = 0;
  RequestPlan plan = RequestPlan::kResident;
  Tokens prompt;
  Tokens output;
  std::array<Tokens, kTierCount> cached{};
  Tokens computed;
  Tokens recomputed;
  Tokens cached_recomputed;  // of `computed`, cached off the device
  Bytes loaded;              // copied to the device for it; not what others loaded and it joined
  double kappa = 0;

  double device_s = 0;              // its share of its steps
  double link_s = 0;                // its loads
  double block_s = 0;               // device blocks x seconds
  double exposed_s = 0;             // steps waited for its loads
  double wait_bound = kNotYet;      // for admission, as promised on arrival
  double predicted_ttft = kNotYet;  // as told on arrival

  bool completed() const {
    return ended && (reason == FinishReason::kStop || reason == FinishReason::kLength);
  }
  double ttft() const { return first_token - arrival; }
  double wait() const { return admitted - queued; }
};

}  // namespace sluice
