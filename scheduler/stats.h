// Numbers that leave the scheduler: per request with its last event, and as a whole once per step.
// Plain values; service/telemetry turns them into metrics.
#pragma once

#include <array>
#include <cstdint>

#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/kv/residency.h"
#include "scheduler/step.h"

namespace sluice {

// How a request's cached tokens were used (DESIGN: "plan of a request"). The plan of the first
// admission.
enum class RequestPlan : uint8_t {
  kResident,   // nothing to move: the cached part (possibly empty) is on the device
  kLoad,       // cached blocks are loaded, overlapped with other work or layer by layer
  kSplit,      // the front of the cached part is computed again while its back is loaded
  kInPlace,    // cached blocks stay in host memory and are attended to there
  kRecompute,  // cached blocks exist on another tier and were computed again instead
};
inline constexpr int kRequestPlanCount = 5;
// "resident", "load", "split", "in_place", "recompute".
const char* RequestPlanName(RequestPlan plan);

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

  Tokens attended_in_place;  // of `cached`, never moved to the device
  Tokens cached_recomputed;  // of `computed`, cached off the device but cheaper to compute

  Bytes loaded;                 // bytes copied towards the device for this request
  absl::Duration load_busy;     // time its loads occupied the link
  absl::Duration load_exposed;  // part of it the device idled for
  absl::Duration load_queued;   // from issue to first byte
  absl::Duration compute;       // time of the steps it took part in, without stalls
  int32_t preemptions = 0;      // revoked admissions included

  // What it used up, for fairness: its share of its steps (by predicted time), its loads' time on
  // the link, and device blocks x seconds held.
  absl::Duration device_share;
  double block_seconds = 0;

  // As told on arrival: when its first token was predicted, and the longest it could wait for its
  // admission under the policy's promise; infinite without one.
  absl::Duration predicted_ttft = absl::InfiniteDuration();
  absl::Duration wait_bound = absl::InfiniteDuration();

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
  Blocks referenced;          // used by at least one admitted request, or pinned
  Blocks cached;              // unreferenced, holds reusable KV, can be evicted at once
  Blocks in_transit;          // unreferenced, but a copy reads or writes it
  Blocks pinned = Blocks(0);  // of `referenced`, those held by Scheduler::Warm(), used or not
};

// Blocks planned to move, or dropped, since the start.
struct CacheMoves {
  Blocks stored;      // to the host
  Blocks spilled;     // to the disk
  Blocks staged;      // from the disk to the host
  Blocks prefetched;  // to the device ahead of need
  Blocks pins_yielded;
  Blocks evicted_on_request;  // copies, by Scheduler::Evict()
};

// Why a decision fell as it did; a closed set, each counted.
enum class Decision : uint8_t {
  // Admissions, one per request and admission, by plan.
  kAdmitResident,
  kAdmitLoad,
  kAdmitSplit,
  kAdmitInPlace,
  kAdmitRecompute,
  kAdmitOverdue,  // besides one of the above: it went first because it had waited too long
  // Why a step admitted nobody although requests wait; one per such step.
  kWaitBlocks,   // the next one does not fit on the device yet
  kWaitLink,     // the link has work queued ahead and all candidates would add to it
  kWaitCompute,  // the device has work queued ahead and all candidates would add to it
  kWaitJoin,     // another request is computing the prefix the candidates need
  kWaitStaging,  // the KV is on its way from disk to host memory
  // Steps and loads.
  kWaitLoad,    // admitted, loads under way, others had work
  kJoinLoad,    // joined a step layer by layer while its loads were under way
  kRevokeLoad,  // an admission was taken back before its loads had ended
  kPrefetch,    // copy made ahead of need
  // Preemptions.
  kPreemptSwap,       // preempted, its blocks are kept on the host
  kPreemptRecompute,  // preempted, (some of) its blocks are lost
  // Stores, per block.
  kStore,         // queued for the host tier
  kStoreSkipped,  // not stored: host tier full of pinned blocks, or too many stores under way
  kStoreGated,    // not stored: not seen often enough, or offloading does not pay here
  // Refusals.
  kRefuseQueueFull,
  kRefuseNeverFits,
  kRefuseDeadline,  // the deadline cannot be met, as predicted at arrival
};
inline constexpr int kDecisionCount = 23;
// "admit_resident", …: the label of metrics and reports.
const char* DecisionName(Decision decision);

struct SchedulerStats {
  int64_t waiting = 0;
  int64_t running = 0;  // admitted, including loading
  int64_t loading = 0;
  Blocks reserved;  // promised to admitted requests, not yet taken
  TierStats device;
  TierStats host;
  TierStats disk;
  Tier storage_tier =
      Tier::kDisk;  // what `disk` and whatever is named after it are: kDisk, kRemote
  // Of cached KV that has left a tier; by tier, as far as this machine has them.
  std::array<Residency, kTierCount> residency{};

  CacheMoves moves;

  // Blocks on their way to the disk, or to the host and from there to the disk.
  Blocks spills_pending;
  // The disk failed again and again and is left alone for a while: blocks are not read from it /
  // not written to it.
  bool disk_reads_off = false;
  bool disk_writes_off = false;

  // Predicted against measured: recent median of |predicted - measured| / measured, of steps and of
  // copies; 0 before the first.
  double step_error = 0;
  double copy_error = 0;
  // New cached-to-new ratio at which the link, not compute, would be the bottleneck, with the costs
  // as refined so far (paper section 3, with sustained rates).
  double kappa_critical = 0;

  // Shadow accounts of offloading (OffloadGuard), in seconds of the scarcest resource since the
  // start; and whether new blocks are stored.
  double offload_saved_s = 0;
  double offload_spent_s = 0;
  bool offload_stores = true;

  // Since start:
  int64_t steps_ahead = 0;  // planned while the step before was under way
  std::array<int64_t, kDecisionCount> decisions{};
  std::array<Tokens, kTierCount> prompt_tokens_cached{};
  Tokens prompt_tokens_computed;
  Tokens tokens_recomputed;
  Tokens output_tokens;
  Blocks device_evictions;
  Blocks host_evictions;
  Blocks disk_evictions;
  Blocks disk_corrupt;  // read from the disk, found to be wrong, and computed instead
  std::array<int64_t, kFinishReasonCount> finished{};
};

}  // namespace sluice
