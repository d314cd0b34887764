// LinkJob: a copy that a line is moving or will move, and how far it has got. Its unit is one layer
// of one block; units follow each other layer by layer.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "scheduler/step.h"

namespace sluice {

struct LinkJob {
  Copy copy;
  int64_t order = 0;     // of arrival
  absl::Time overdue;    // from when it goes before everything younger
  int64_t blocks = 0;    // units per layer
  int64_t units = 0;     // in all layers
  int64_t slice = 1;     // most units moved at a time
  double unit_work = 0;  // seconds per unit at the line's full rate; 0 = unpaced
  double latency = 0;    // seconds before the first unit

  int64_t position = 0;  // units that have arrived
  int layers = 0;        // reported as complete
  absl::Time started = absl::InfiniteFuture();
  absl::Status status;
  bool revoked = false;

  bool has_started() const { return started != absl::InfiniteFuture(); }
  // Seconds at full rate that moving all that has not arrived takes.
  double WorkLeft() const {
    return (position == 0 ? latency : 0) + static_cast<double>(units - position) * unit_work;
  }
  // Where the slice that contains or ends at `unit` ends. Slices restart with every layer.
  int64_t SliceEnd(int64_t unit) const {
    const int64_t within = unit % blocks;
    if (within == 0) return unit;
    return unit - within + std::min((within + slice - 1) / slice * slice, blocks);
  }
};

}  // namespace sluice
