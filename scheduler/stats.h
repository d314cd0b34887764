// Numbers that leave the scheduler: per request with its last event, and as a whole once per step.
// Plain values; service/telemetry turns them into metrics.
#pragma once

#include <array>
#include <cstdint>

#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

// How a request's cached tokens were used (DESIGN: "plan of a request"). The plan of the first
// admission.
enum class RequestPlan : uint8_t {
  kResident,   // nothing to move: the cached part (possibly empty) is on the device
  kLoad,       // cached blocks are loaded, overlapped with other work or layer by layer
  kRecompute,  // cached blocks exist on another tier and were computed again instead; no policy
               // picks it yet
};
inline constexpr int kRequestPlanCount = 3;

enum class FinishReason : uint8_t {
  kStop,       // a stop id was drawn
  kLength,     // max_new reached
  kCancelled,  // Cancel() was called
  kDeadline,   // first_token_deadline passed while waiting
  kError,      // the backend failed
};
inline constexpr int kFinishReasonCount = 5;

struct RequestStats {
  absl::Time arrival;
  absl::Time admitted;     // first admission; InfiniteFuture if never
  absl::Time first_token;  // InfiniteFuture if none
  absl::Time finished;

  Tokens prompt;
  Tokens output;

  // Where the prompt's KV came from at first admission. These five sum to `prompt`.
  std::array<Tokens, kTierCount> cached{};  // by tier
  Tokens computed;
  // Tokens (of prompt or output) computed more than once: after preemption or a failed load.
  Tokens recomputed;

  Bytes loaded;                 // bytes copied towards the device for this request
  absl::Duration load_busy;     // time its loads occupied the link
  absl::Duration load_exposed;  // part of it the device idled for
  absl::Duration load_queued;   // from issue to first byte
  absl::Duration compute;       // time of the steps it took part in, without stalls
  int32_t preemptions = 0;

  RequestPlan plan = RequestPlan::kResident;

  // κ_ratio (paper section 3): tokens loaded from off the device per token computed.
  double kappa() const {
    const int64_t off_device = prompt.value() - computed.value() - cached[0].value();
    return computed.value() > 0
               ? static_cast<double>(off_device) / static_cast<double>(computed.value())
               : 0.0;
  }
};

// Blocks of one tier. free + referenced + cached + in_transit == capacity.
struct TierStats {
  Blocks capacity;
  Blocks free;
  Blocks referenced;  // used by at least one admitted request
  Blocks cached;      // unreferenced, holds reusable KV, can be evicted at once
  Blocks in_transit;  // unreferenced, but a copy reads or writes it
};

// Why a decision fell as it did; a closed set, each counted.
enum class Decision : uint8_t {
  kAdmitResident,
  kAdmitLoad,
  kWaitBlocks,        // head of the queue does not fit yet
  kWaitLoad,          // admitted, loads under way, others had work
  kJoinLoad,          // joined a step layer by layer while its loads were under way
  kPreemptSwap,       // preempted, its blocks are kept on the host
  kPreemptRecompute,  // preempted, (some of) its blocks are lost
  kStore,             // block queued for the host tier
  kStoreSkipped,      // not stored: host tier full of pinned blocks, or too many stores under way
  kRefuseQueueFull,
  kRefuseNeverFits,
};
inline constexpr int kDecisionCount = 11;

struct SchedulerStats {
  int64_t waiting = 0;
  int64_t running = 0;  // admitted, including loading
  int64_t loading = 0;
  Blocks reserved;  // promised to admitted requests, not yet taken
  TierStats device;
  TierStats host;

  // Since start:
  std::array<int64_t, kDecisionCount> decisions{};
  std::array<Tokens, kTierCount> prompt_tokens_cached{};
  Tokens prompt_tokens_computed;
  Tokens tokens_recomputed;
  Tokens output_tokens;
  Blocks device_evictions;
  Blocks host_evictions;
  std::array<int64_t, kFinishReasonCount> finished{};
};

}  // namespace sluice
