// SimClock: virtual time. It stands still until somebody moves it on.
//
// Thread-compatible.
#pragma once

#include "absl/time/time.h"
#include "scheduler/base/check.h"

namespace sluice {

class SimClock {
 public:
  explicit SimClock(absl::Time start = absl::UnixEpoch()) : now_(start) {}

  absl::Time now() const { return now_; }

  // REQUIRES: `time` is finite and not before now().
  void AdvanceTo(absl::Time time) {
    SLUICE_CHECK(time >= now_ && time < absl::InfiniteFuture());
    now_ = time;
  }

 private:
  absl::Time now_;
};

}  // namespace sluice
