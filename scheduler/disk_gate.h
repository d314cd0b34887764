// DiskGate keeps copies away from a disk that fails: after some failures in a row its direction is
// shut for a while, then one more try is made, and each failure after that shuts it for twice as
// long. What is not copied is computed: nobody waits for a broken disk.
//
// One per direction: a full disk can still be read. Pure; thread-compatible.
#pragma once

#include <algorithm>
#include <cstdint>

#include "scheduler/cost/measure.h"

namespace sluice {

class DiskGate {
 public:
  static constexpr int kFailures = 3;  // in a row
  static constexpr Seconds kFirst{1};
  static constexpr Seconds kLongest{60};

  explicit DiskGate(Seconds longest = kLongest)
      : longest_(longest), pause_(std::min(kFirst, longest)) {}

  // A copy has ended. `failed`: by the disk's fault; corrupt blocks are not a reason to stop.
  void OnCopy(bool failed, Seconds now) {
    if (!failed) {
      failures_ = 0;
      pause_ = std::min(kFirst, longest_);
      return;
    }
    // Copies that were under way when it shut tell nothing new.
    if (++failures_ < kFailures || !Open(now)) return;
    open_from_ = now + pause_;
    pause_ = std::min(pause_ * 2, longest_);
    ++times_shut_;
  }

  bool Open(Seconds now) const { return now >= open_from_; }
  int64_t times_shut() const { return times_shut_; }

 private:
  Seconds longest_;
  int failures_ = 0;
  Seconds pause_;
  Seconds open_from_;
  int64_t times_shut_ = 0;
};

}  // namespace sluice
