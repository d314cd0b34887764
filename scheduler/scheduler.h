// Scheduler decides, once per step, which requests run and where their KV blocks live.
//
// It is a pure state machine: time comes in as an argument, decisions go out as values, and the
// same calls give the same answers, bit for bit. Hence one implementation serves the live server
// (service/engine), the virtual-time simulator and the property tests.
//
//   Submit / Cancel / OnCopyDone --> PlanStep(now) --> [backend] --> CommitStep(result, now)
//                                   (PlanAhead(now))                     |
//                                              TakeEvents() <------------+
//
// REQUIRES, for every `now`: not smaller than any earlier `now`.
// Thread-compatible; owned by one thread (in the server, the engine thread).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"
#include "scheduler/cache_control.h"
#include "scheduler/explanation.h"
#include "scheduler/kv/kv_events.h"
#include "scheduler/options.h"
#include "scheduler/request.h"
#include "scheduler/stats.h"
#include "scheduler/step.h"

namespace sluice {

// The names of a prompt's full blocks, without one that holds its last token, which is computed in
// any case.
struct PromptBlocks {
  std::vector<BlockIdentity> blocks;
  size_t known = 0;  // the leading ones that the cache holds, wherever

  std::span<const BlockIdentity> missing() const { return std::span(blocks).subspan(known); }
};

// How a request ended.
struct RequestFinish {
  FinishReason reason = FinishReason::kStop;
  absl::Status status;  // OK for kStop and kLength
  RequestStats stats;
};

// What a client should hear about: that its request was queued (once, first), a token, the end.
struct Event {
  using Finish = RequestFinish;

  RequestId request;
  // When its first token is predicted, counted from its arrival.
  std::optional<absl::Duration> predicted_ttft;
  std::optional<SampledToken> token;
  // With a token, but for the last: prompt tokens found in the cache at the first admission.
  Tokens cached;
  std::optional<Finish> finish;  // at most once per request, on its last event
};

class Scheduler {
 public:
  // `block_hash` names KV blocks; collisions cost hits, never correctness.
  // REQUIRES: options.Validate() is OK.
  explicit Scheduler(const SchedulerOptions& options, BlockHashFunction block_hash = &BlockHash);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Takes over blocks that the disk tier still holds from before this process; `blocks`: oldest
  // first, each in a slot of its own below SchedulerOptions::disk_blocks. Returns the slots of
  // those it has no use for: blocks that carry another seed, or whose prefix is not all there.
  // REQUIRES: before the first Submit().
  std::vector<BlockId> Adopt(std::span<const StoredBlock> blocks);

  // A store that other servers write to, too, may hold more of a prompt than this process knows of.
  // Before a request is submitted: what of it could be looked for there. Nothing is missing without
  // a tier behind the host. Changes nothing.
  PromptBlocks FindMissing(const RequestSpec& spec);
  // Takes over those that were found, the first `found` of prompt.missing(): returns who is in
  // which slot from now on. Fewer if there is no room, or what the cache held before them is gone.
  // REQUIRES: `prompt` is FindMissing() of the same request.
  std::vector<StoredBlock> AdoptFound(const RequestSpec& spec, const PromptBlocks& prompt,
                                      size_t found);

  // Queues a request. After OK, the request ends with exactly one Finish event.
  // Returns INVALID_ARGUMENT if it can never fit (longer than max_model_len, or more blocks than
  // the device has); RESOURCE_EXHAUSTED if the queue is full, or if first_token_deadline cannot be
  // met as far as can be told (SchedulerOptions::refuse_late); ALREADY_EXISTS if the id is live.
  absl::Status Submit(RequestSpec spec, absl::Time now);

  // What would happen to this request now, and why. Changes nothing.
  Explanation Explain(RequestSpec spec, absl::Time now);

  // Ends a request (Finish with kCancelled). Unknown ids are ignored: it may just have ended.
  void Cancel(RequestId id, absl::Time now);

  // Reports the end of a copy from an earlier plan. May be called while a step is under way.
  // REQUIRES: one call per copy.
  void OnCopyDone(const CopyResult& result, absl::Time now);

  // Chooses the next step. No sequences and no copies: nothing can be done before the next
  // Submit, OnCopyDone or NextWakeup().
  // REQUIRES: all plans with sequences have been committed.
  StepPlan PlanStep(absl::Time now);

  // Plans the step behind the one under way before its tokens are known, for backends that take two
  // at a time (BackendInfo::max_steps_in_flight). Only what can be told already: sequences that run
  // go on, those that draw a token now with SequenceWork::previous_row; nobody is admitted or
  // preempted, nothing is loaded. No sequences and no copies: something needs the results first, or
  // a PlanStep(): nothing was planned, the step has the empty id.
  // REQUIRES: one step is under way.
  StepPlan PlanAhead(absl::Time now);

  // Applies a finished step. What has ended in it, or fails, is in the step planned ahead for
  // nothing: its result there is thrown away, and its blocks come free at the commit of that step.
  // REQUIRES: result.id is the id of the oldest step under way.
  void CommitStep(const StepResult& result, absl::Time now);

  // Everything that happened since the last call, in order.
  std::vector<Event> TakeEvents();

  // --- The cache on request ---

  // Brings what is cached of a prompt to a tier, in room that no request was promised, and pins it
  // there. After OK, TakeWarmResults() gives exactly one result, after some PlanStep().
  // A pinned block is evicted for nobody before its time, but for Evict(), and on the device for a
  // waiting request that could not be admitted otherwise.
  // Returns FAILED_PRECONDITION without prefix caching or that tier; RESOURCE_EXHAUSTED above
  // SchedulerOptions::max_pinned_share of the tier, or if too many are under way.
  absl::Status Warm(WarmSpec spec, absl::Time now);
  std::vector<WarmResult> TakeWarmResults();

  // Drops cached KV that nobody uses, at once. O(blocks).
  EvictResult Evict(const EvictSpec& spec, absl::Time now);

  // Which KV blocks came and went since the last call, in order; nothing unless
  // SchedulerOptions::kv_events.
  KvEvents TakeKvEvents();
  // All that are here now, as events kStored. O(blocks).
  // REQUIRES: TakeKvEvents() was the last call that could change anything.
  KvEvents ListKvBlocks() const;

  // When PlanStep() must be called even if nothing else happens (a deadline, the end of a pin). May
  // be infinite.
  absl::Time NextWakeup() const;

  // No live requests. (Stores may still be under way.)
  bool idle() const;

  SchedulerStats stats() const;

  // Walks everything and returns INTERNAL naming the first broken invariant (see README.md).
  // O(blocks + requests); for tests and when idle.
  absl::Status CheckInvariants() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
