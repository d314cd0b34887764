// Policy decides who goes first. It sees queues and states as values and answers with values: it
// knows no blocks, no tokens and no clock, so that policies can be compared on equal terms.
//
// Who is admitted when, and whether there is room, is the scheduler's business (admission.cc): it
// admits in the policy's order and stops at the first request that does not fit.
//
// Implementations are immutable, hence thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "scheduler/base/units.h"

namespace sluice {

struct WaitingView {
  int32_t priority = 0;
  bool resumed = false;  // was admitted before: preempted, or a load of its failed
  int64_t arrival = 0;   // rank by arrival; unique
};

struct RunningView {
  int32_t priority = 0;
  Tokens remaining;               // known tokens whose KV is still to be computed; at least 1
  std::span<const CopyId> loads;  // under way
  bool joinable = true;           // false: must wait until its loads have ended
};

// A sequence in a step.
struct StepShare {
  size_t index = 0;  // into the running requests
  Tokens count;      // of its remaining tokens, from the first on
};

class Policy {
 public:
  virtual ~Policy() = default;

  // Strict total order in which waiting requests are admitted.
  virtual bool AdmitsBefore(const WaitingView& a, const WaitingView& b) const = 0;

  // Whether `victim` may lose its device blocks so that `head` can be admitted.
  // A victim must come after `head` in the order of AdmitsBefore() once it waits again.
  virtual bool MayPreempt(const WaitingView& head, const RunningView& victim) const = 0;

  // Whether `a` is preempted rather than `b`; both run, `a` was admitted before `b`.
  virtual bool PreemptsOlder(const RunningView& a, const RunningView& b) const = 0;

  // Fills `shares` (empty on entry) with at most `limit` tokens of work. `running` is in admission
  // order. Must choose something if any request has no loads under way or is joinable.
  virtual void FormStep(std::span<const RunningView> running, Tokens limit,
                        std::vector<StepShare>* shares) const = 0;
};

// Higher priority first, then first come first served; loads run ahead of compute.
std::unique_ptr<const Policy> MakeFcfsPolicy();

}  // namespace sluice
