// Work: how much time a workload needs of each resource, whatever the order. Bounds for makespans,
// and what `--utilization` scales arrivals by.
//
// Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/cost/measure.h"

namespace sluice {

// One request as the cost model sees it.
struct WorkItem {
  Tokens on_device;  // cached tokens by where they are; they come first
  Tokens on_host;
  Tokens on_disk;
  Tokens fresh;      // prompt tokens to compute; at least 1
  Tokens output{1};  // at least 1; the first one comes with the prefill
  Tokens held;       // what its blocks have room for; 0: not known

  Tokens cached() const { return on_device + on_host + on_disk; }
};

// The machine's limits that bound work from below.
struct WorkLimits {
  Tokens step_tokens{8192};   // per step
  int64_t max_running = 256;  // sequences per step
  Tokens device_tokens;       // the device pool; 0: leave memory out
};

struct Work {
  Seconds link;        // host to device
  Seconds compute;     // all steps, as if they were packed perfectly
  Seconds disk;        // disk to host
  Seconds write_back;  // device to host, if every fresh block were stored
  Seconds recompute;   // extra compute if all that lies off the device were computed instead

  Seconds bottleneck() const;  // of link, compute and disk
  // No order of the same requests, found cached as they were, ends sooner: the larger of link and
  // compute; where that is the link, after computing again the share that balances the two.
  Seconds Bound() const;
};

// Least time each resource needs for all of `items`. Steps are taken as a fluid: their number is
// the least that token limit, batch limit and (if given) memory allow; each of them costs its
// launch and at least the floor; weights are read once per step; attention adds up.
Work WorkOf(const CostCoefficients& cost, const WorkLimits& limits,
            const std::vector<WorkItem>& items);

// Time to first token of one request on an idle machine, with its cached tokens used where they
// are: the load overlaps the prefill layer by layer, and the disk the load.
Seconds AloneTtft(const CostCoefficients& cost, Tokens step_tokens, const WorkItem& item);

}  // namespace sluice
