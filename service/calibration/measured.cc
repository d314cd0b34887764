#include "service/calibration/measured.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sluice {

double ThreeDigits(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double power = std::pow(10, std::floor(std::log10(std::abs(value))) - 2);
  // Dividing by 10^n keeps more of a decimal number than multiplying by 10^-n.
  return power < 1 ? std::round(value / power) / std::round(1 / power)
                   : std::round(value / power) * power;
}

std::string Measured::Value() const { return FormatQuantity(value, unit); }

std::string Measured::Interval() const {
  return absl::StrCat("80 % of ", repeats, " runs from ", FormatQuantity(low, unit), " to ",
                      FormatQuantity(high, unit));
}

Measured MeasuredRate(std::string what, UnitKind unit, double work, const RunTimes& times) {
  const auto rate = [&](absl::Duration time) {
    return ThreeDigits(work / absl::ToDoubleSeconds(time));
  };
  return {std::move(what),  unit,         rate(times.quarter), rate(times.high), rate(times.low),
          rate(times.best), times.repeats};
}

Measured MeasuredTime(std::string what, const RunTimes& times, double parts) {
  const auto time = [&](absl::Duration all) {
    return ThreeDigits(absl::ToDoubleSeconds(all) / parts);
  };
  return {std::move(what),  UnitKind::kTime,  time(times.quarter), time(times.low),
          time(times.high), time(times.best), times.repeats};
}

std::string DescribeMeasured(const std::vector<Measured>& figures) {
  return absl::StrJoin(figures, "; ", [](std::string* out, const Measured& m) {
    absl::StrAppend(out, m.what, " ", m.Value(), " (", m.Interval(), ")");
  });
}

}  // namespace sluice
