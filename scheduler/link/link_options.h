// LinkOptions: how fast each direction of each link is, and how a LinkScheduler shares it.
//
// Values; thread-compatible.
#pragma once

#include <array>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/measure.h"
#include "scheduler/step.h"

namespace sluice {

// One direction of one link.
struct LineOptions {
  // Stated bandwidth. 0 = unpaced: bytes have arrived as soon as they have been moved; the two
  // below do not count then.
  ByteRate rate;
  // Least time per descriptor: per layer, one per stretch of blocks that are neighbours in both
  // pools.
  Seconds per_run;
  Seconds latency;  // per copy, before its first byte
};

struct LinkSchedulerOptions {
  // --- What is moved ---
  int layers = 1;
  Bytes layer_bytes;  // one layer of one block

  // --- The lines ---
  std::array<LineOptions, kLinkDirectionCount> lines{};
  // Rate of either direction of the host link while both are busy, as a share of its rate alone;
  // in (0, 1].
  double duplex_share = 1;

  // --- Order ---
  // A slice takes at most slice_time at the stated rate and slice_bytes bytes, but is never less
  // than one layer of one block. Shorter slices let urgent copies in sooner and cost more calls.
  absl::Duration slice_time = absl::Milliseconds(1);
  Bytes slice_bytes = MiB(1);
  // A copy that has waited (class x promote_after), with demand = 1, prefetch = 2, write-back = 3,
  // is overdue: its line serves it before everything younger but control copies. Smaller values
  // bound waits more tightly and let ranks count for less. InfiniteDuration: never.
  absl::Duration promote_after = absl::Seconds(5);
  // Share of its line that write-back (device to host) gets while demand loads wait for the host
  // link; in (0, 1].
  double write_back_share = 0.25;

  // For virtual time, where there are no bytes to move: serve as many slices of a copy in one call
  // as nothing else can come between. What arrives when is the same as without.
  bool coalesce = false;

  // Returns INVALID_ARGUMENT naming the first number that is out of range.
  absl::Status Validate() const;
};

}  // namespace sluice
