// What a set of measurements looks like, in the few numbers that reports show.
//
// Values; pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice {

struct Distribution {
  int64_t count = 0;
  // All 0 without measurements.
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// Exact; percentiles as in service/report/percentiles.h.
Distribution DistributionOf(const std::vector<double>& values);

// Counts positive numbers in buckets of equal ratio, for more of them than one wants to keep.
// Percentiles are right to within 1 %; count, mean and max are exact.
class LogHistogram {
 public:
  void Add(double value);
  Distribution distribution() const;

 private:
  double Percentile(double p) const;

  // 2 % per bucket from 1e-6 on; the last one begins at 1e-6 x 1.02^1199 = 2e4.
  static constexpr int kBuckets = 1200;
  std::array<int64_t, kBuckets> counts_{};
  int64_t count_ = 0;
  double sum_ = 0;
  double max_ = 0;
  // Tokens of one step have mostly the same gap: the bucket of the last value is remembered.
  double last_value_ = -1;
  size_t last_bucket_ = 0;
};

}  // namespace sluice
