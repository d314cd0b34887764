// What the scheduler is told at start-up.
#pragma once

#include <algorithm>
#include <cstdint>

#include <string>

#include "absl/status/status.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/policy_options.h"
#include "scheduler/step.h"

namespace sluice {

// A good bound on blocks being stored at a time: enough that a burst of finished prompts is stored,
// and at most an eighth of the pool held up by it.
constexpr Blocks DefaultStoreBlocks(Blocks device) {
  return Blocks(std::max<int64_t>(64, device.value() / 8));
}

struct SchedulerOptions {
  // --- Behaviour ---

  // Longest sequence (prompt + output) any request may reach. The model's limit or less.
  Tokens max_model_len{2048};

  // Upper bound on requests waiting to be admitted; one more is RESOURCE_EXHAUSTED.
  // A larger queue trades refusals for time to first token.
  int64_t queue_limit = 1024;

  // Reuse KV of equal prefixes. Off: every request computes its whole prompt.
  bool prefix_caching = true;

  // Tells models and KV layouts apart in block hashes: a fingerprint of both.
  uint64_t cache_seed = 0;

  // Who goes first and how cached KV is used: one of PolicyNames() (scheduler/policy/registry.h).
  std::string policy = "slack";
  PolicyOptions policy_options;

  // Refuse a request at once if its first_token_deadline cannot be met as far as can be told then.
  bool refuse_late = true;

  // A higher-priority request may take the device blocks of running lower-priority ones.
  bool preemption = true;

  // --- Performance ---

  // Upper bound on tokens computed in one step; prompts are split to fit.
  // Larger steps raise throughput and the gap between a stream's tokens.
  Tokens step_token_limit{512};

  // Upper bound on admitted requests (running or loading).
  // More share each weight read; each takes device blocks.
  int64_t max_running = 256;

  // Prompt chunks leave room for this time between the tokens of those already decoding. Smaller:
  // smoother streams, later first tokens. Infinite: chunks are limited by step_token_limit alone.
  Seconds tpot_target{0.1};

  // What steps and copies cost here, as calibrated or stated; refined from what is measured.
  CostCoefficients cost;
  bool refine_cost = true;

  // The backend can attend to KV in host memory (BackendInfo::attends_in_place).
  bool attend_in_place = false;

  // A block is stored on the host when it is seen for the n-th time; 0 and 1: at once. Larger saves
  // link and host memory where most prompts never come back.
  int min_hits_to_store = 0;

  // Collect KvEvents (Scheduler::TakeKvEvents).
  bool kv_events = false;

  // Most of the device pool and of the host pool that Scheduler::Warm() may pin, [0, 1]. More keeps
  // more prompts ready whatever comes; what is left is all that other requests' KV is cached in.
  double max_pinned_share = 0.5;

  // Upper bound on blocks being stored to the host at a time. Blocks in transit cannot be evicted,
  // so this bounds how much of the device pool stores can hold up. 0 turns stores off.
  Blocks max_store_blocks{64};

  KvGeometry geometry{Tokens(32), MiB(1)};
  Blocks device_blocks{1024};
  Blocks host_blocks{0};  // 0 = no host tier
  Blocks disk_blocks{0};  // 0 = no disk tier
  // What the tier behind the host is called where numbers tell of it: kDisk, or kRemote for a store
  // that other servers write to as well, and that may lose blocks at any time.
  Tier storage_tier = Tier::kDisk;

  // Returns INVALID_ARGUMENT naming the first field out of range.
  absl::Status Validate() const;
};

}  // namespace sluice
