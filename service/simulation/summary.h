// Summary: a simulation in the numbers that are compared.
//
// Values; pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "scheduler/cost/coefficients.h"
#include "service/simulation/distribution.h"
#include "service/simulation/fairness.h"
#include "service/simulation/simulation.h"
#include "service/simulation/work.h"

namespace sluice {

// Requests by κ, tokens loaded per token computed.
struct KappaBucket {
  const char* label = "";
  int64_t requests = 0;
  Distribution ttft_s;
  Distribution slowdown;
};
inline constexpr int kKappaBuckets = 6;

struct Summary {
  int64_t requests = 0;
  int64_t completed = 0;
  int64_t rejected = 0;  // never queued
  int64_t failed = 0;    // deadline, or the machine failed

  // Of requests with a first token, from the moment the client sent them.
  Distribution ttft_s;
  // TTFT over what it would have been on an idle machine, with everything cached as it was
  // (AloneTtft).
  Distribution slowdown;
  Distribution itl_s;

  double makespan_s = 0;  // first arrival to last end
  Work work;              // of what was admitted, cached as it was, all of it loaded
  double bound_s = 0;     // work.Bound()
  double device_busy_s = 0;
  std::array<double, kLinkDirectionCount> link_busy_s{};
  double exposed_link_s = 0;

  double max_wait_s = 0;          // for admission
  double wait_bound_s = 0;        // the largest promised; infinite if none was
  int64_t beyond_wait_bound = 0;  // requests that waited longer than promised

  Fairness fairness;
  double energy_j = 0;
  // Median of |predicted - actual| / actual TTFT; negative: no predictions.
  double ttft_prediction_error = -1;
  int64_t recomputed_tokens = 0;
  std::array<KappaBucket, kKappaBuckets> kappa;
};

// `cost`: the machine's. `weights`: of tenants, missing ones are 1.
Summary Summarize(const SimulationResult& result, const CostCoefficients& cost,
                  const WorkLimits& limits, const std::vector<double>& weights);

// Times to first token of all requests that had one.
std::vector<double> TtftsOf(const SimulationResult& result);

}  // namespace sluice
