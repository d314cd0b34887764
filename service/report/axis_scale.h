// AxisScale: where a value lies on an axis, and which values get a tick.
//
// Ends that the caller did not set are rounded outwards to a number people like (1, 2 or 5 times a
// power of ten), so that the first and last tick are near the ends.
#pragma once

#include <string>
#include <vector>

#include "service/report/chart.h"

namespace sluice {

// Smallest and largest of the values that an axis can show.
class Extent {
 public:
  explicit Extent(Scale scale) : scale_(scale) {}

  void Add(double value);

  bool empty() const { return empty_; }
  double low() const { return low_; }
  double high() const { return high_; }

 private:
  Scale scale_;
  bool empty_ = true;
  double low_ = 0;
  double high_ = 0;
};

// Finite, not absurdly large, and above 0 on a log axis.
bool Drawable(double value, Scale scale);

struct Tick {
  double value = 0;
  std::string label;
};

class AxisScale {
 public:
  // Without data the axis covers [0, 1], or [1, 10] if logarithmic. Ends of `axis` that cannot be
  // drawn, or that leave nothing between them, are ignored.
  AxisScale(const Axis& axis, const Extent& data);

  double low() const { return low_; }
  double high() const { return high_; }
  bool CanShow(double value) const { return Drawable(value, axis_.scale); }

  // 0 at the low end, 1 at the high end; outside of [0, 1] beyond them. REQUIRES: CanShow(value).
  double Share(double value) const;
  // The value at a share; inverse of Share().
  double At(double share) const;

  // At most `limit` values within the ends, ascending, labels all different. REQUIRES: limit >= 2.
  std::vector<Tick> Ticks(int limit) const;

  // "new tokens", "bandwidth (GB/s)".
  std::string Title() const;

 private:
  std::vector<Tick> LinearTicks(int limit) const;
  std::vector<Tick> LogTicks(int limit) const;
  std::vector<Tick> Labelled(const std::vector<double>& values) const;

  Axis axis_;
  double low_ = 0;
  double high_ = 1;
};

}  // namespace sluice
