// LoadWindow turns totals into rates over the last second or so. It keeps a few samples of the
// totals and compares the newest with the youngest that is at least a window old.
//
// Time is the activity meter's own: its four states add up to it.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <deque>

#include "absl/time/time.h"
#include "backend/activity.h"
#include "scheduler/base/units.h"

namespace sluice {

struct LoadRates {
  double device_busy = 0;          // computing, [0, 1]
  double link_to_device_busy = 0;  // [0, 1]
  double link_to_host_busy = 0;    // [0, 1]
  double output_tokens_per_s = 0;
};

class LoadWindow {
 public:
  explicit LoadWindow(absl::Duration window) : window_(window) {}

  // Adds the totals so far. Call a few times per window, in order.
  void Add(const ActivitySnapshot& activity, Tokens output_tokens);

  // Zeros before the second sample.
  LoadRates Rates() const;

 private:
  struct Sample {
    ActivitySnapshot activity;
    Tokens output_tokens;
  };

  const absl::Duration window_;
  std::deque<Sample> samples_;  // oldest first; the second is younger than the window
};

}  // namespace sluice
