#include "service/report/percentiles.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "scheduler/base/check.h"

namespace sluice {

void Samples::Add(const std::vector<double>& values) {
  values_.insert(values_.end(), values.begin(), values.end());
  sorted_ = false;
}

double Samples::sum() const { return std::accumulate(values_.begin(), values_.end(), 0.0); }

double Samples::mean() const {
  return values_.empty() ? 0 : sum() / static_cast<double>(values_.size());
}

double Samples::max() const {
  return values_.empty() ? 0 : *std::max_element(values_.begin(), values_.end());
}

double Samples::Percentile(double p) {
  SLUICE_CHECK(p >= 0 && p <= 100);
  if (values_.empty()) return 0;
  if (!sorted_) std::sort(values_.begin(), values_.end());
  sorted_ = true;
  const double rank = p / 100 * static_cast<double>(values_.size() - 1);
  const size_t below = static_cast<size_t>(std::floor(rank));
  const size_t above = std::min(below + 1, values_.size() - 1);
  return values_[below] + (rank - std::floor(rank)) * (values_[above] - values_[below]);
}

}  // namespace sluice
