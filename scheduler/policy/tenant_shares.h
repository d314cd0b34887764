// TenantShares keeps each tenant's recent use of device time, link time and device memory, and says
// how far it is above or below its fair dominant share (Ghodsi et al. 2011, "Dominant Resource
// Fairness"). Use is forgotten exponentially.
//
// Thread-compatible; deterministic.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "scheduler/cost/measure.h"

namespace sluice {

class TenantShares {
 public:
  // `half_life`: after it, use counts half. Missing weights are 1.
  TenantShares(Seconds half_life, std::vector<double> weights);

  void Charge(int32_t tenant, Seconds now, Seconds device, Seconds link, double memory);

  // (fair share / dominant share), in [1/4, 4]: above 1 for a tenant that is owed something.
  // 1 with fewer than two tenants.
  double Credit(int32_t tenant) const;

 private:
  static constexpr size_t kResources = 3;
  double Weight(size_t tenant) const;

  const Seconds half_life_;
  const std::vector<double> weights_;
  std::vector<std::array<double, kResources>> use_;  // by tenant; at time `at_`
  std::array<double, kResources> total_{};
  Seconds at_;
};

}  // namespace sluice
