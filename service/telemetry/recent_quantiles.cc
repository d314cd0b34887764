#include "service/telemetry/recent_quantiles.h"

#include <algorithm>
#include <cmath>

namespace sluice {
namespace {

constexpr double kSmallest = 1e-5;  // seconds
constexpr double kGrowth = 1.1;

int BinOf(double seconds, int bins) {
  if (!(seconds > kSmallest)) return 0;
  const double bin = 1 + std::log(seconds / kSmallest) / std::log(kGrowth);
  return static_cast<int>(std::min(bin, static_cast<double>(bins - 1)));  // infinity, too
}

// The middle of a bin, in ratio.
double ValueOf(int bin) {
  return bin == 0 ? kSmallest : kSmallest * std::pow(kGrowth, static_cast<double>(bin) - 0.5);
}

}  // namespace

void RecentQuantiles::Add(absl::Duration value, absl::Time now) {
  const int bin = BinOf(absl::ToDoubleSeconds(value), kBins);
  const int64_t at = absl::ToUnixSeconds(now);
  std::lock_guard<std::mutex> lock(mu_);
  Second& second = seconds_[static_cast<size_t>(at % kSeconds)];
  if (second.at < at) {
    second.counts.fill(0);
    second.at = at;
  }
  ++second.counts[static_cast<size_t>(bin)];
}

RecentQuantiles::Summary RecentQuantiles::Read(absl::Time now) const {
  const int64_t at = absl::ToUnixSeconds(now);
  std::array<int64_t, kBins> counts{};
  Summary summary;
  {
    std::lock_guard<std::mutex> lock(mu_);
    for (const Second& second : seconds_) {
      if (second.at < 0 || second.at <= at - kSeconds) continue;
      for (size_t i = 0; i < counts.size(); ++i) counts[i] += second.counts[i];
    }
  }
  for (const int64_t count : counts) summary.count += count;
  if (summary.count == 0) return summary;
  const auto quantile = [&](double q) {
    const auto rank = static_cast<int64_t>(std::ceil(q * static_cast<double>(summary.count)));
    int64_t below = 0;
    for (int bin = 0; bin < kBins; ++bin) {
      below += counts[static_cast<size_t>(bin)];
      if (below >= rank) return absl::Seconds(ValueOf(bin));
    }
    return absl::Seconds(ValueOf(kBins - 1));
  };
  summary.p50 = quantile(0.50);
  summary.p95 = quantile(0.95);
  summary.p99 = quantile(0.99);
  return summary;
}

}  // namespace sluice
