#include "service/report/axis_scale.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "service/report/number_text.h"

namespace sluice {
namespace {

// Differences and ratios of numbers within these bounds stay finite.
constexpr double kLargest = 1e150;
constexpr double kSmallest = 1e-150;
constexpr double kSlack = 1e-9;  // of an axis: rounding must not lose the last tick
constexpr int kRoundingTicks = 6;

// The smallest of 1, 2, 5 times a power of ten that is >= value. REQUIRES: value > 0.
double NiceCeil(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= value * (1 - kSlack)) return factor * power;
  }
  return 10 * power;
}

double NiceFloor(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value) + kSlack));
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * power <= value * (1 + kSlack)) return factor * power;
  }
  return power;
}

// Step of a linear axis of length `span` with at most `limit` ticks.
double LinearStep(double span, int limit) { return NiceCeil(span / std::max(1, limit - 1)); }

// The unit a linear axis is counted in: ticks are round numbers of it.
double LinearUnit(TickFormat format, double high) {
  if (format == TickFormat::kSeconds) {
    if (high >= 7200) return 3600;
    if (high >= 120) return 60;
    return 1;
  }
  if (format == TickFormat::kPercent) return 0.01;
  double unit = 1;
  if (format == TickFormat::kBytes) {
    while (high >= 2048 * unit) unit *= 1024;
  }
  return unit;
}

std::string Label(TickFormat format, double value, int digits) {
  switch (format) {
    case TickFormat::kSeconds:
      // On an axis 60 s is a minute, because the next tick counts minutes.
      if (value >= 60 && value < 120) {
        return absl::StrCat(FormatSignificant(value / 60, digits), " min");
      }
      if (value >= 3600 && value < 7200) {
        return absl::StrCat(FormatSignificant(value / 3600, digits), " h");
      }
      return FormatSeconds(value, digits);
    case TickFormat::kPercent:
      return FormatPercent(value, digits);
    case TickFormat::kBytes:
      return FormatBinaryBytes(value, digits);
    case TickFormat::kNumber:
      break;
  }
  return FormatWithPrefix(value, digits);
}

// Candidates of a log axis: every `stride`-th power of ten, times `factors`.
std::vector<double> Decades(double low, double high, int stride,
                            const std::vector<double>& factors) {
  std::vector<double> values;
  const int first = static_cast<int>(std::floor(std::log10(low))) - 1;
  const int last = static_cast<int>(std::ceil(std::log10(high)));
  for (int power = first; power <= last; ++power) {
    if (power % stride != 0) continue;
    for (const double factor : factors) values.push_back(factor * std::pow(10.0, power));
  }
  return values;
}

// Seconds: powers of ten up to 10 s, then 1 and 10 minutes, and powers of ten of hours.
std::vector<double> SecondDecades(double low, double high, int stride) {
  std::vector<double> values;
  for (const double value : Decades(low, high, 1, {1})) {
    if (value < 50) values.push_back(value);
  }
  for (const double value : {60.0, 600.0}) values.push_back(value);
  for (const double hours : Decades(1, high, 1, {1})) {
    if (hours >= 1) values.push_back(3600 * hours);
  }
  std::vector<double> kept;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] >= low && i % static_cast<size_t>(stride) == 0) kept.push_back(values[i]);
  }
  return kept;
}

std::vector<double> BinaryPowers(double low, double high, int stride) {
  std::vector<double> values;
  const int first = static_cast<int>(std::floor(std::log2(low)));
  const int last = static_cast<int>(std::ceil(std::log2(high)));
  for (int power = first; power <= last; ++power) {
    if (power % stride == 0) values.push_back(std::exp2(power));
  }
  return values;
}

}  // namespace

bool Drawable(double value, Scale scale) {
  if (!std::isfinite(value) || std::abs(value) > kLargest) return false;
  return scale == Scale::kLinear || value >= kSmallest;
}

void Extent::Add(double value) {
  if (!Drawable(value, scale_)) return;
  low_ = empty_ ? value : std::min(low_, value);
  high_ = empty_ ? value : std::max(high_, value);
  empty_ = false;
}

AxisScale::AxisScale(const Axis& axis, const Extent& data) : axis_(axis) {
  const bool log = axis.scale == Scale::kLog;
  low_ = data.empty() ? (log ? 1 : 0) : data.low();
  high_ = data.empty() ? (log ? 10 : 1) : data.high();
  const bool low_set = axis.min.has_value() && CanShow(*axis.min);
  const bool high_set = axis.max.has_value() && CanShow(*axis.max);
  if (low_set) low_ = *axis.min;
  if (high_set) high_ = *axis.max;
  if (!log && !low_set && low_ > 0) low_ = 0;
  if (!log && !high_set && high_ < 0) high_ = 0;
  if (!(low_ < high_)) {
    const double middle = high_set ? high_ : low_;
    low_ = log ? middle / 3 : middle - std::max(1.0, std::abs(middle) / 2);
    high_ = log ? middle * 3 : middle + std::max(1.0, std::abs(middle) / 2);
    return;
  }
  if (log) {
    if (!low_set) low_ = NiceFloor(low_);
    if (!high_set) high_ = NiceCeil(high_);
    return;
  }
  const double unit = LinearUnit(axis.format, high_);
  const double step = unit * LinearStep((high_ - low_) / unit, kRoundingTicks);
  if (!low_set) low_ = step * std::floor(low_ / step + kSlack);
  if (!high_set) high_ = step * std::ceil(high_ / step - kSlack);
}

double AxisScale::Share(double value) const {
  if (axis_.scale == Scale::kLog) return std::log(value / low_) / std::log(high_ / low_);
  return (value - low_) / (high_ - low_);
}

double AxisScale::At(double share) const {
  if (axis_.scale == Scale::kLog) return low_ * std::pow(high_ / low_, share);
  return low_ + share * (high_ - low_);
}

std::vector<Tick> AxisScale::Labelled(const std::vector<double>& values) const {
  std::vector<Tick> ticks;
  for (const double value : values) {
    const double share = Share(value);
    if (share < -kSlack || share > 1 + kSlack) continue;
    ticks.push_back({value, ""});
  }
  // More digits only where the labels would be the same.
  for (int digits = 3; digits <= 9; ++digits) {
    std::set<std::string> seen;
    for (Tick& tick : ticks) {
      tick.label = Label(axis_.format, tick.value, digits);
      seen.insert(tick.label);
    }
    if (seen.size() == ticks.size()) break;
  }
  return ticks;
}

std::vector<Tick> AxisScale::LinearTicks(int limit) const {
  const double unit = LinearUnit(axis_.format, high_);
  double step = unit * LinearStep((high_ - low_) / unit, limit);
  std::vector<double> values;
  const double first = std::ceil(low_ / step - kSlack);
  const double last = std::floor(high_ / step + kSlack);
  for (double i = first; i <= last && values.size() < 100; ++i) {
    // -0 would read "-0".
    values.push_back(i == 0 ? 0 : i * step);
  }
  return Labelled(values);
}

std::vector<Tick> AxisScale::LogTicks(int limit) const {
  const size_t most = static_cast<size_t>(limit);
  std::vector<std::vector<double>> choices;  // densest first
  if (axis_.format == TickFormat::kBytes) {
    for (const int stride : {1, 2, 5, 10, 20, 40}) {
      choices.push_back(BinaryPowers(low_, high_, stride));
    }
  } else {
    choices.push_back(Decades(low_, high_, 1, {1, 2, 5}));
    choices.push_back(Decades(low_, high_, 1, {1, 3}));
    for (const int stride : {1, 2, 3, 6, 12, 24, 48, 96, 200}) {
      choices.push_back(axis_.format == TickFormat::kSeconds ? SecondDecades(low_, high_, stride)
                                                             : Decades(low_, high_, stride, {1}));
    }
  }
  // 1-2-5 ticks of seconds read badly beyond a minute (100 s, 200 s).
  const bool long_times = axis_.format == TickFormat::kSeconds && high_ > 60;
  for (size_t i = long_times ? 2 : 0; i < choices.size(); ++i) {
    std::vector<Tick> ticks = Labelled(choices[i]);
    if (ticks.size() <= most) return ticks;
  }
  return {};
}

std::vector<Tick> AxisScale::Ticks(int limit) const {
  if (axis_.scale == Scale::kLinear) return LinearTicks(limit);
  // Within a factor of three the powers of ten say little.
  return high_ / low_ < 3 ? LinearTicks(limit) : LogTicks(limit);
}

std::string AxisScale::Title() const {
  return axis_.unit.empty() ? axis_.title : absl::StrCat(axis_.title, " (", axis_.unit, ")");
}

}  // namespace sluice
