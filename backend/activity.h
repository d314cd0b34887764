// ActivityMeter splits wall time into four exhaustive states per device: compute only, transfer
// only, both, idle. They sum to the time since construction by construction.
//
// "Transfer" is the union of all copies under way, in any direction; per direction the union is
// kept too, so that rate(busy) is that link direction's utilisation. A step that waits for a load
// is not computing: it calls End/BeginCompute around the wait.
//
// Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

struct ActivitySnapshot {
  absl::Duration compute_only;
  absl::Duration transfer_only;
  absl::Duration both;
  absl::Duration idle;
  absl::Duration load_stall;  // part of the above in which a step waited for a load

  struct Direction {
    absl::Duration busy;
    Bytes moved;
    int64_t operations = 0;
    Bytes in_flight;  // queued or moving now
  };
  std::array<Direction, kLinkDirectionCount> links{};

  absl::Duration wall() const { return compute_only + transfer_only + both + idle; }
};

class ActivityMeter {
 public:
  explicit ActivityMeter(absl::Time now) : last_(now) {}

  void BeginCompute(absl::Time now);
  void EndCompute(absl::Time now);

  // A step waits for a load, nothing is computed. Nests inside no BeginCompute.
  void BeginStall(absl::Time now);
  void EndStall(absl::Time now);

  void QueueTransfer(LinkDirection direction, Bytes bytes);
  void BeginTransfer(LinkDirection direction, absl::Time now);
  // `bytes` of the queued ones have arrived (or been given up, if `ok` is false).
  void EndTransfer(LinkDirection direction, Bytes bytes, bool ok, absl::Time now);
  // `bytes` of the queued ones will not move: their copy was taken back before it began.
  void DropTransfer(LinkDirection direction, Bytes bytes);

  // Up to `now`. Not const: it closes the running interval.
  ActivitySnapshot Snapshot(absl::Time now);

 private:
  void AdvanceLocked(absl::Time now);

  std::mutex mu_;
  absl::Time last_;
  int computing_ = 0;
  int stalled_ = 0;
  std::array<int, kLinkDirectionCount> moving_{};
  ActivitySnapshot total_;
};

}  // namespace sluice
