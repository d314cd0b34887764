#include "backend/probe_timer.h"

#include <algorithm>
#include <vector>

#include "scheduler/base/status_macros.h"

namespace sluice {

absl::Status CheckCancelled(const ProbeControl& control) {
  if (control.cancelled && control.cancelled()) return absl::CancelledError("interrupted");
  return absl::OkStatus();
}

absl::StatusOr<RunTimes> CollectTimes(const ProbeControl& control,
                                      absl::FunctionRef<absl::StatusOr<absl::Duration>()> once) {
  SLUICE_RETURN_IF_ERROR(CheckCancelled(control));
  SLUICE_RETURN_IF_ERROR(once().status());
  std::vector<absl::Duration> times;
  const absl::Time start = control.clock();
  while (static_cast<int64_t>(times.size()) < kMostRepeats) {
    if (static_cast<int64_t>(times.size()) >= kLeastRepeats &&
        control.clock() - start >= control.time) {
      break;
    }
    SLUICE_RETURN_IF_ERROR(CheckCancelled(control));
    SLUICE_ASSIGN_OR_RETURN(const absl::Duration time, once());
    times.push_back(time);
  }
  std::sort(times.begin(), times.end());
  const size_t last = times.size() - 1;
  return RunTimes{times.front(),           times[last / 10],
                  times[last / 4],         times[times.size() / 2],
                  times[last - last / 10], static_cast<int64_t>(times.size())};
}

absl::StatusOr<RunTimes> TimeRepeatedly(const ProbeControl& control,
                                        absl::FunctionRef<absl::Status()> once) {
  return CollectTimes(control, [&]() -> absl::StatusOr<absl::Duration> {
    const absl::Time start = control.clock();
    SLUICE_RETURN_IF_ERROR(once());
    return control.clock() - start;
  });
}

}  // namespace sluice
