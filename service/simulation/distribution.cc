#include "service/simulation/distribution.h"

#include <algorithm>
#include <cmath>

#include "service/report/percentiles.h"

namespace sluice {
namespace {

constexpr double kLeast = 1e-6;
constexpr double kRatio = 1.02;

}  // namespace

Distribution DistributionOf(const std::vector<double>& values) {
  Samples samples;
  samples.Add(values);
  Distribution d;
  d.count = static_cast<int64_t>(samples.count());
  d.p50 = samples.Percentile(50);
  d.p90 = samples.Percentile(90);
  d.p99 = samples.Percentile(99);
  d.max = samples.max();
  d.mean = samples.mean();
  return d;
}

void LogHistogram::Add(double value) {
  if (value != last_value_) {
    const double bucket = value > kLeast ? std::log(value / kLeast) / std::log(kRatio) : 0;
    last_bucket_ = std::min(static_cast<size_t>(bucket), static_cast<size_t>(kBuckets - 1));
    last_value_ = value;
  }
  ++counts_[last_bucket_];
  ++count_;
  sum_ += value;
  max_ = std::max(max_, value);
}

double LogHistogram::Percentile(double p) const {
  const double rank = p / 100 * static_cast<double>(count_);
  int64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += counts_[i];
    if (counts_[i] == 0 || static_cast<double>(seen) < rank) continue;
    const double middle = kLeast * std::pow(kRatio, static_cast<double>(i) + 0.5);
    return std::min(middle, max_);
  }
  return max_;
}

Distribution LogHistogram::distribution() const {
  Distribution d;
  if (count_ == 0) return d;
  d.count = count_;
  d.mean = sum_ / static_cast<double>(count_);
  d.p50 = Percentile(50);
  d.p90 = Percentile(90);
  d.p99 = Percentile(99);
  d.max = max_;
  return d;
}

}  // namespace sluice
