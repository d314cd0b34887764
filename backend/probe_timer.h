// TimeRepeatedly: how long something takes on a machine that also does other things.
//
// One run says little there, so it is run again and again for a while. Other work only ever makes a
// run longer, so the fastest quarter is nearest to what the machine can do; the middle 80 % say how
// sure that is.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace sluice {

// Times of repeated runs.
struct RunTimes {
  absl::Duration best;
  absl::Duration low;      // one in ten was shorter
  absl::Duration quarter;  // one in four was shorter: the estimate to use
  absl::Duration median;
  absl::Duration high;  // one in ten was longer
  int64_t repeats = 0;
};

struct ProbeControl {
  std::function<absl::Time()> clock = absl::Now;
  // Asked between runs: true ends the probe. Empty: never.
  std::function<bool()> cancelled;
  // How long one probe may take, about. A probe runs kLeastRepeats times in any case.
  absl::Duration time = absl::Milliseconds(400);
};

inline constexpr int64_t kLeastRepeats = 5;
inline constexpr int64_t kMostRepeats = 10000;

// Runs `once` once for warming up, then until control.time has passed.
// Returns CANCELLED if control.cancelled said so; the first error of `once`.
absl::StatusOr<RunTimes> TimeRepeatedly(const ProbeControl& control,
                                        absl::FunctionRef<absl::Status()> once);

// The same of runs that say themselves how long they took.
absl::StatusOr<RunTimes> CollectTimes(const ProbeControl& control,
                                      absl::FunctionRef<absl::StatusOr<absl::Duration>()> once);

// CANCELLED if the control says so.
absl::Status CheckCancelled(const ProbeControl& control);

}  // namespace sluice
