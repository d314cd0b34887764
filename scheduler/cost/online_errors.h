// ErrorWindow: the median of the last 256 relative errors |predicted - measured| / measured.
//
// No allocation. Thread-compatible.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>

#include "scheduler/cost/measure.h"

namespace sluice {

class ErrorWindow {
 public:
  static constexpr size_t kSize = 256;

  // REQUIRES: measured > 0.
  void Add(Seconds predicted, Seconds measured) {
    errors_[next_] = std::abs(predicted / measured - 1);
    next_ = (next_ + 1) % kSize;
    count_ = std::min(count_ + 1, kSize);
  }

  // The upper median of an even number. Nothing before the first Add().
  std::optional<double> Median() const {
    if (count_ == 0) return std::nullopt;
    std::array<double, kSize> sorted = errors_;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(count_ / 2);
    std::nth_element(sorted.begin(), middle, sorted.begin() + static_cast<std::ptrdiff_t>(count_));
    return *middle;
  }

 private:
  std::array<double, kSize> errors_{};
  size_t next_ = 0;
  size_t count_ = 0;
};

}  // namespace sluice
