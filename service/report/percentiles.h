// Samples: exact mean and percentiles of a set of measurements.
#pragma once

#include <cstddef>
#include <vector>

namespace sluice {

class Samples {
 public:
  void Add(double value) {
    values_.push_back(value);
    sorted_ = false;
  }
  void Add(const std::vector<double>& values);

  size_t count() const { return values_.size(); }
  double sum() const;

  // All are 0 without samples.
  double mean() const;
  double max() const;
  // Percentile `p` in [0, 100], interpolating linearly between the two nearest samples (Hyndman and
  // Fan 1996, definition 7), as NumPy does. Sorts on first use.
  double Percentile(double p);

 private:
  std::vector<double> values_;
  bool sorted_ = false;
};

}  // namespace sluice
