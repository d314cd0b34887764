#include "scheduler/policy/tenant_shares.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace sluice {
namespace {

constexpr double kMostCredit = 4;

}  // namespace

TenantShares::TenantShares(Seconds half_life, std::vector<double> weights)
    : half_life_(half_life), weights_(std::move(weights)) {}

double TenantShares::Weight(size_t tenant) const {
  return tenant < weights_.size() ? weights_[tenant] : 1.0;
}

void TenantShares::Charge(int32_t tenant, Seconds now, Seconds device, Seconds link,
                          double memory) {
  const auto index = static_cast<size_t>(tenant);
  if (index >= use_.size()) use_.resize(index + 1);
  if (now > at_) {
    const double keep = std::exp2(-((now - at_) / half_life_));
    for (auto& use : use_) {
      for (double& u : use) u *= keep;
    }
    for (double& t : total_) t *= keep;
    at_ = now;
  }
  const std::array<double, kResources> added = {device.value(), link.value(), memory};
  for (size_t r = 0; r < kResources; ++r) {
    use_[index][r] += added[r];
    total_[r] += added[r];
  }
}

double TenantShares::Credit(int32_t tenant) const {
  const auto index = static_cast<size_t>(tenant);
  if (use_.size() < 2) return 1;
  double weights = 0;
  for (size_t i = 0; i < use_.size(); ++i) weights += Weight(i);
  const double fair = Weight(index) / weights;
  double dominant = 0;
  if (index < use_.size()) {
    for (size_t r = 0; r < kResources; ++r) {
      if (total_[r] > 0) dominant = std::max(dominant, use_[index][r] / total_[r]);
    }
  }
  return std::clamp(fair / std::max(dominant, fair / kMostCredit), 1 / kMostCredit, kMostCredit);
}

}  // namespace sluice
