// RecentQuantiles: quantiles of durations seen within the last seconds, for people who watch. Keeps
// counts in bins that grow by a tenth, one set per second, so memory and time per sample are
// constant and a quantile is at most 5 % off.
//
// Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "absl/time/time.h"

namespace sluice {

class RecentQuantiles {
 public:
  // Samples count for between kSeconds - 1 and kSeconds seconds.
  static constexpr int kSeconds = 10;

  // REQUIRES: `now` is after 1970 and never goes back by more than a second.
  void Add(absl::Duration value, absl::Time now);

  struct Summary {
    int64_t count = 0;
    absl::Duration p50;  // 0 without samples, like the others
    absl::Duration p95;
    absl::Duration p99;
  };
  Summary Read(absl::Time now) const;

 private:
  static constexpr int kBins = 208;  // 10 us to 4,000 s
  struct Second {
    int64_t at = -1;  // seconds since the epoch; -1: unused
    std::array<uint32_t, kBins> counts{};
  };

  mutable std::mutex mu_;
  std::array<Second, kSeconds> seconds_{};  // guarded by mu_; slot: at % kSeconds
};

}  // namespace sluice
