// What would happen to a prompt if it came now, and why. Plain data; the answer of
// Scheduler::Explain().
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/stats.h"

namespace sluice {

struct Explanation {
  absl::Status status;  // not OK: it would be refused, and the rest says nothing

  // Where the KV of its leading tokens is; the rest of `prompt` is new. `pending` is part of the
  // new tokens: another request is computing them right now.
  Tokens prompt;
  Tokens on_device;
  Tokens on_host;
  Tokens on_disk;
  Tokens pending;

  struct Plan {
    bool possible = false;
    absl::Duration link;     // work it adds
    absl::Duration compute;  //
    absl::Duration ready;    // until the first token if it is admitted at once
    double price = 0;        // added work in seconds, weighted by how scarce each resource is
  };
  std::array<Plan, kRequestPlanCount> plans{};  // by RequestPlan
  RequestPlan plan = RequestPlan::kResident;    // the one that would be chosen

  int64_t waiting = 0;  // requests in the queue
  bool fits_now = false;
  absl::Duration predicted_ttft;  // with the queue as it is

  // Worth of a second of each resource, 1 for the scarcest.
  double link_price = 0;
  double compute_price = 0;
  double memory_price = 0;

  double kappa = 0;  // tokens to load per new token
  double kappa_critical = 0;
};

}  // namespace sluice
