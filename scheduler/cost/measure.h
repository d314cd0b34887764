// Physical quantities of the cost model: real numbers that carry their unit in their type, in SI
// units (seconds, bytes, FLOP, watts). Adding seconds to bytes does not compile; dividing work by
// a rate gives a time.
//
// The scheduler prices a thousand requests per step, so these are plain doubles; absl::Duration is
// used where a value leaves the cost model (ToDuration).
#pragma once

#include <compare>
#include <ostream>

#include "absl/time/time.h"
#include "scheduler/base/units.h"

namespace sluice {

// A real number of some unit. Arithmetic stays within one Tag; ratios are plain numbers.
template <class Tag>
class Measure {
 public:
  constexpr Measure() = default;
  constexpr explicit Measure(double value) : value_(value) {}

  constexpr double value() const { return value_; }

  friend constexpr auto operator<=>(Measure, Measure) = default;
  friend constexpr Measure operator+(Measure a, Measure b) { return Measure(a.value_ + b.value_); }
  friend constexpr Measure operator-(Measure a, Measure b) { return Measure(a.value_ - b.value_); }
  friend constexpr Measure operator*(Measure a, double k) { return Measure(a.value_ * k); }
  friend constexpr Measure operator*(double k, Measure a) { return Measure(a.value_ * k); }
  friend constexpr Measure operator/(Measure a, double k) { return Measure(a.value_ / k); }
  friend constexpr double operator/(Measure a, Measure b) { return a.value_ / b.value_; }
  constexpr Measure& operator+=(Measure o) {
    value_ += o.value_;
    return *this;
  }
  constexpr Measure& operator-=(Measure o) {
    value_ -= o.value_;
    return *this;
  }
  friend std::ostream& operator<<(std::ostream& os, Measure m) { return os << m.value_; }

 private:
  double value_ = 0;
};

using Seconds = Measure<struct SecondsTag>;
using Flop = Measure<struct FlopTag>;          // floating-point operations
using FlopRate = Measure<struct FlopRateTag>;  // FLOP per second
using ByteRate = Measure<struct ByteRateTag>;  // bytes per second
using Watts = Measure<struct WattsTag>;
using Joules = Measure<struct JoulesTag>;

constexpr Seconds operator/(Flop work, FlopRate rate) {
  return Seconds(work.value() / rate.value());
}
constexpr Seconds operator/(Bytes bytes, ByteRate rate) {
  return Seconds(static_cast<double>(bytes.value()) / rate.value());
}
constexpr Joules operator*(Watts power, Seconds time) {
  return Joules(power.value() * time.value());
}

inline absl::Duration ToDuration(Seconds s) { return absl::Seconds(s.value()); }
inline Seconds ToSeconds(absl::Duration d) { return Seconds(absl::ToDoubleSeconds(d)); }

}  // namespace sluice
