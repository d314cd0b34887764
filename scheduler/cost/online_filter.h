// OnlineFilter: learns N positive numbers from measurements of sums of them.
//
// The numbers are kept as logarithms of their ratio to a start value; a measurement says by which
// factor a prediction was wrong, and the numbers that made up most of that prediction, and that are
// least certain, move most. That is an extended Kalman filter on the logarithms: with
// x = ln(number / start) and a prediction p = Σ terms, d ln p / dx_i is the share of term i in p.
// Logarithms make errors relative and keep every number positive.
//
// A measurement may be an outlier: the machine was busy with something else. How far measurements
// usually are from their predictions is estimated as they come; one that is further off than kClip
// times that is not absorbed. But when kStreak of them in a row are off to the same side, the
// machine has changed (or the start was wrong), and the filter becomes as unsure as at its start.
//
// No allocation; the same calls give the same numbers. Thread-compatible.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace sluice {

template <size_t N>
class OnlineFilter {
 public:
  using Vector = std::array<double, N>;

  // Numbers stay within [1 / limit, limit] times their start. `common_drift` is the variance that
  // all numbers together gain per measurement: other programs that come and go slow everything down
  // by about the same factor. REQUIRES: limit > 1, common_drift >= 0.
  OnlineFilter(double limit, double common_drift)
      : limit_(std::log(limit)), common_drift_(common_drift) {
    upper_.fill(limit_);
    Reset();
  }

  // Number i as a multiple of its start.
  double factor(size_t i) const { return std::exp(x_[i]); }

  // Number i stays at most `factor` times its start. REQUIRES: factor >= 1 / limit.
  void LimitAbove(size_t i, double factor) { upper_[i] = std::min(limit_, std::log(factor)); }

  // Takes a measurement that was exp(error) times its prediction; shares[i] is the part number i
  // had in the prediction, negative if the prediction falls as the number grows. Numbers without a
  // share stay as they are. Returns false if it was an outlier and not absorbed.
  // REQUIRES: everything is finite.
  bool Observe(const Vector& shares, double error) {
    const double most = kClip * spread_;
    const bool outlier = std::abs(error) > most;
    Widen(std::min(std::abs(error), most));
    if (outlier && !Persists(error)) return false;
    if (!outlier) streak_ = 0;
    Absorb(shares, std::clamp(error, -kClip * spread_, kClip * spread_));
    return true;
  }

 private:
  static constexpr double kStartVariance = 0.5;  // a start value is right within a factor of two
  static constexpr double kStartSpread = 0.5;
  static constexpr double kLeastSpread = 0.03;
  static constexpr double kSpreadRate = 0.05;
  static constexpr double kClip = 2.5;
  static constexpr int kStreak = 8;
  static constexpr double kDrift = 5e-4;  // variance a number gains per measurement
  // Standard deviation over mean absolute deviation of a normal distribution.
  static constexpr double kDeviation = 1.2533;

  void Reset() {
    spread_ = kStartSpread;
    variance_ = {};
    for (size_t i = 0; i < N; ++i) variance_[i][i] = kStartVariance;
  }

  void Widen(double deviation) {
    spread_ += kSpreadRate * (kDeviation * deviation - spread_);
    spread_ = std::max(spread_, kLeastSpread);
  }

  // Counts outliers in a row to one side; true from the kStreak-th on.
  bool Persists(double error) {
    const bool same_side = (error > 0) == (streak_ > 0);
    streak_ = (same_side ? streak_ : 0) + (error > 0 ? 1 : -1);
    if (std::abs(streak_) == kStreak) Reset();
    return std::abs(streak_) >= kStreak;
  }

  void Absorb(const Vector& shares, double error) {
    Vector weight{};  // variance x shares
    double uncertainty = spread_ * spread_;
    for (size_t i = 0; i < N; ++i) {
      for (size_t j = 0; j < N; ++j) weight[i] += variance_[i][j] * shares[j];
      uncertainty += shares[i] * weight[i];
    }
    for (size_t i = 0; i < N; ++i) {
      x_[i] = std::clamp(x_[i] + weight[i] / uncertainty * error, -limit_, upper_[i]);
      for (size_t j = 0; j < N; ++j) variance_[i][j] -= weight[i] * weight[j] / uncertainty;
    }
    Forget(shares);
  }

  // Machines change: what was learnt long ago counts less.
  void Forget(const Vector& shares) {
    std::array<bool, N> sure{};
    for (size_t i = 0; i < N; ++i) sure[i] = variance_[i][i] < kStartVariance;
    for (size_t i = 0; i < N; ++i) {
      if (!sure[i]) continue;
      if (shares[i] != 0) variance_[i][i] += kDrift;
      for (size_t j = 0; j < N; ++j) variance_[i][j] += sure[j] ? common_drift_ : 0;
    }
  }

  const double limit_;
  const double common_drift_;
  Vector upper_{};
  Vector x_{};
  std::array<Vector, N> variance_{};
  double spread_ = kStartSpread;  // standard deviation of ln(measured / predicted)
  int streak_ = 0;                // outliers in a row; negative: measurements too short
};

}  // namespace sluice
