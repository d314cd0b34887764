// Measured: one figure of a calibration: what it is of, its value, and how sure it is.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "backend/probe_timer.h"
#include "service/profiles/quantity.h"

namespace sluice {

struct Measured {
  std::string what;  // "product, 512 rows, bf16"
  UnitKind unit = UnitKind::kTime;
  double value = 0;  // base units, three digits; see RunTimes::quarter
  double low = 0;    // of the middle 80 % of runs
  double high = 0;
  double best = 0;  // highest rate or shortest time seen
  int64_t repeats = 0;

  // "692 GFLOP/s"
  std::string Value() const;
  // "80 % of 12 runs from 610 GFLOP/s to 700 GFLOP/s"
  std::string Interval() const;
};

// `work` units done in each of `times`, as a rate.
Measured MeasuredRate(std::string what, UnitKind unit, double work, const RunTimes& times);

// `times`, each over `parts` parts.
Measured MeasuredTime(std::string what, const RunTimes& times, double parts = 1);

// To three significant digits: more would be noise.
double ThreeDigits(double value);

// "what value (interval); what value (interval)": the source of a profile's section.
std::string DescribeMeasured(const std::vector<Measured>& figures);

}  // namespace sluice
