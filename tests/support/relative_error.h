// How far computed numbers are from what they should be.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace sluice::testing {

// ||got - want|| / ||want||
inline double RelativeError(std::span<const float> got, std::span<const double> want) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = static_cast<double>(got[i]) - want[i];
    difference += d * d;
    norm += want[i] * want[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace sluice::testing
