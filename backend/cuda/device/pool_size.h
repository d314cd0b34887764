// How many KV blocks the device pool gets. Pure.
#pragma once

#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

struct PoolRequest {
  Bytes total;  // device memory in all
  Bytes free;   // now
  double utilization =
      0.9;  // share of `total` that this process and others together may use, in (0, 1]
  // Still to be allocated beside the pool. What is already allocated is not in `free` any more.
  Bytes weights;
  Bytes workspace;
  Bytes block;               // one KV block, all layers
  Blocks least = Blocks(1);  // fewer are of no use
  Blocks most = Blocks(0);   // no more than these; 0: no limit
};

// floor((utilization x total - used - weights - workspace) / block), used = total - free.
// Returns INVALID_ARGUMENT for a utilization out of range, RESOURCE_EXHAUSTED if fewer than `least`
// blocks fit, with the sum spelt out.
absl::StatusOr<Blocks> DevicePoolBlocks(const PoolRequest& request);

}  // namespace sluice::cuda
