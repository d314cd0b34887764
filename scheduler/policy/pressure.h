// Pressure: how much work waits for each resource, as seconds of that resource. What is scarce now
// follows from it, and with it what a second of each is worth: the price of a plan is the work it
// adds, weighted by how scarce that work's resource is (algorithms.md section 1: budgets are time
// on each resource).
//
// Values.
#pragma once

#include <algorithm>
#include <span>

#include "scheduler/policy/policy.h"

namespace sluice {

struct Pressure {
  Seconds link;         // queued loads, and those of all waiting requests
  Seconds compute;      // prefill and (probable) decodes of admitted and waiting requests
  Seconds memory;       // device memory: block-seconds of waiting requests over the pool's blocks
  Seconds recompute;    // what computing every waiting request's host KV would add
  int64_t waiting = 0;  // requests

  // Worth of a second of each resource, in (0, 1]; 1 for the scarcest.
  double link_price = 1;
  double compute_price = 1;
  double memory_price = 1;
  // Share of the load work that, computed instead, makes link and compute end together; 0 if the
  // link is not the scarcest of all: when device memory holds the link back, computing instead
  // would only add work.
  double balancing_share = 0;

  Seconds most() const { return std::max({link, compute, memory}); }
};

Pressure PressureOf(const MachineView& machine, std::span<const WaitingView> waiting);

// The same, one request at a time, for a caller that walks over the queue anyway.
class PressureSum {
 public:
  explicit PressureSum(const MachineView& machine);

  void Add(const WaitingView& w) {
    sum_.link += w.load;
    sum_.compute += w.compute + w.decode;
    sum_.recompute += w.recompute;
    ++sum_.waiting;
    block_seconds_ += static_cast<double>(w.need.value()) * w.hold.value();
  }
  Pressure Total() const;

 private:
  Pressure sum_;
  double block_seconds_ = 0;
  double blocks_ = 1;
};

// A plan for one waiting request, priced with the present queues.
struct PlanPrice {
  RequestPlan plan = RequestPlan::kResident;
  Tokens recompute;  // kSplit
  Seconds link;      // work it adds
  Seconds compute;
  Seconds ready;  // from now to its first token, if it is admitted at once
  Seconds price;  // added work, weighted by scarcity
};

// The price of one plan. `ready` is infinite where the plan is impossible.
PlanPrice PriceOf(RequestPlan plan, const MachineView& machine, const Pressure& pressure,
                  const WaitingView& request);

// The plan that delays all requests least in sum: the request itself until it is ready, the others
// by its price; on an idle machine there are hardly any. Of equal ones the first of
// resident/load, split, in place, recompute.
PlanPrice CheapestPlan(const MachineView& machine, const Pressure& pressure,
                       const WaitingView& request);

}  // namespace sluice
