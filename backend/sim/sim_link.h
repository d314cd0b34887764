// SimLink: copies in virtual time. A LinkScheduler whose slices have no bytes to move: they arrive
// when the cost model says so.
//
// Thread-compatible. Times must not go back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backend/sim/sim_activity.h"
#include "backend/sim/sim_options.h"
#include "scheduler/base/units.h"
#include "scheduler/link/link_scheduler.h"
#include "scheduler/step.h"

namespace sluice {

class SimLink {
 public:
  // `activity` must outlive it; it is kept at the link's time. REQUIRES: options.Validate().ok().
  SimLink(const SimOptions& options, SimActivity& activity);

  // REQUIRES: ids were never used before; blocks exist.
  void Start(std::span<const Copy> copies, absl::Time now);
  void Revoke(std::span<const CopyId> copies, absl::Time now);

  // Lets everything happen that happens up to `now`, in order.
  void AdvanceTo(absl::Time now);
  // When something happens next by itself; InfiniteFuture if nothing.
  absl::Time next_event() const { return queue_.next_event(); }

  // Takes the results of copies that have ended.
  std::vector<CopyResult> TakeFinished();
  bool has_finished() const { return !finished_.empty(); }

  // What a load means for a step that waits for it layer by layer.
  struct Meeting {
    // Earliest end of the step as far as this load is concerned: layer i starts when layer i - 1 is
    // done and layer i of the load is in place. InfinitePast if it has ended before.
    absl::Time earliest_end = absl::InfinitePast();
    absl::Status status;  // not OK: the load has failed, or was never started (INTERNAL)
  };
  // One per load, for a step that starts `now` and computes for `compute`, the same in every layer.
  // Moves the link's time on to the end of the last of them.
  std::vector<Meeting> Meet(std::span<const CopyId> loads, absl::Duration compute, absl::Time now);

 private:
  struct State {
    LinkDirection direction = LinkDirection::kHostToDevice;
    RequestId request;
    Bytes bytes;
    bool awaited = false;  // by a request: a demand load
    bool fails = false;
    int layers = 0;  // in place
    bool watched = false;
    absl::Time earliest_end = absl::InfinitePast();
  };

  void CheckBlocks(const Copy& copy) const;
  // Everything that happens exactly at `now`.
  void Process(absl::Time now);
  void Book(const LinkArrival& arrival, absl::Time now);

  const SimOptions options_;
  SimActivity& activity_;
  LinkScheduler queue_;
  absl::flat_hash_map<CopyId, State> copies_;  // under way
  absl::flat_hash_map<CopyId, absl::Status> failed_;
  CopyId newest_;
  std::vector<CopyResult> finished_;
  absl::Duration step_compute_;  // of the step that meets its loads
};

}  // namespace sluice
