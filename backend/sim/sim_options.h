// SimOptions: the machine that backend/sim pretends to be.
//
// Values; thread-compatible.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/step.h"

namespace sluice {

// Told of everything the machine does, in order of its ends. For timelines.
class SimObserver {
 public:
  virtual ~SimObserver() = default;

  // `tokens`: computed in the step. `stall`: part of it in which the device waited for loads.
  virtual void OnStep(absl::Time started, absl::Time finished, absl::Duration stall,
                      Tokens tokens) = 0;
  virtual void OnCopy(LinkDirection direction, RequestId request, const CopyResult& result) = 0;
};

struct SimOptions {
  // --- The machine ---

  // What steps and copies truly cost. What the scheduler believes (SchedulerOptions::cost) may
  // differ.
  CostCoefficients cost;
  KvGeometry geometry{Tokens(64), MiB(8)};
  Blocks device_blocks{1024};
  Blocks host_blocks{0};
  Blocks disk_blocks{0};
  bool attends_in_place = false;  // needs cost.per_in_place_token > 0
  int32_t vocab_size = 32768;
  std::string device = "cost model";  // for people: "h100-pcie5, Llama-3.1-8B"

  // --- Trouble, all of it a function of the seed ---
  uint64_t seed = 0;
  // Steps take exp(noise x N(0, 1)) times as long as predicted. 0: exactly.
  double noise = 0;
  // Probability that a copy ends with DATA_LOSS, at its first slice; that a step fails as a whole.
  double copy_failure_rate = 0;
  double step_failure_rate = 0;

  // Mean length of answers nobody has set (OutputOracle); 0 = to the limit of the request.
  double mean_output = 0;

  // Not owned; must outlive the backend. Null: nobody listens.
  SimObserver* observer = nullptr;

  // Returns INVALID_ARGUMENT naming the first option out of range.
  absl::Status Validate() const;
};

}  // namespace sluice
