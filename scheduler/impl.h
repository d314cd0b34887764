// Scheduler::Impl: the state machine behind the facade. Its methods are spread over
//   scheduler.cc    Submit, Cancel, ends, numbers
//   admission.cc    deadlines, admission, preemption
//   step_former.cc  PlanStep
//   commit.cc       CommitStep, OnCopyDone
//   invariants.cc   CheckInvariants
// Not part of the interface.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "scheduler/kv/kv_cache.h"
#include "scheduler/policy/policy.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/waiting_queue.h"

namespace sluice {

class Scheduler::Impl {
 public:
  Impl(const SchedulerOptions& options, BlockHashFunction block_hash);

  absl::Status Submit(RequestSpec spec, absl::Time now);
  void Cancel(RequestId id, absl::Time now);
  void OnCopyDone(const CopyResult& result, absl::Time now);
  StepPlan PlanStep(absl::Time now);
  void CommitStep(const StepResult& result, absl::Time now);
  std::vector<Event> TakeEvents();
  absl::Time NextWakeup() const;
  bool idle() const { return live_.empty(); }
  SchedulerStats stats() const;
  absl::Status CheckInvariants() const;

 private:
  // One sequence of the step under way.
  struct InFlight {
    Sequence* sequence = nullptr;
    Tokens first;
    Tokens count;
    bool sample = false;
    bool had_loads = false;
    std::unique_ptr<Sequence> ended;  // keeps `sequence` if it ended during the step
  };

  // --- scheduler.cc ---
  void AdvanceClock(absl::Time now);
  absl::Status CheckSpec(const RequestSpec& spec) const;
  void Count(Decision decision) { ++decisions_[static_cast<size_t>(decision)]; }
  // Ends a live sequence: Finish event (with `token`, if any), blocks released, forgotten.
  void End(Sequence* sequence, FinishReason reason, absl::Status status, absl::Time now,
           std::optional<SampledToken> token = std::nullopt);
  // Gives up the blocks of a running sequence. Returns KvCache::Release()'s answer.
  bool ReleaseBlocks(Sequence* sequence);
  void RemoveFromRunning(Sequence* sequence);

  // --- admission.cc ---
  bool Full() const { return static_cast<int64_t>(running_.size()) >= options_.max_running; }
  void ExpireWaiting(absl::Time now);
  void AdmitWaiting(absl::Time now);
  // Whether the head of the queue has room, after preemption if that helps. Fills match_.
  bool MakeRoom(Sequence* head);
  bool PreemptFor(Sequence* head);
  void Admit(Sequence* sequence, absl::Time now);
  // Puts a running sequence back into the queue. Its tokens stay.
  // Returns whether all its KV is on the host or on its way there.
  bool Requeue(Sequence* sequence);
  void MatchPrefix(Sequence* sequence);
  void ExtendHashes(Sequence* sequence, Blocks count);

  // --- step_former.cc ---
  void FormStep(StepPlan* plan);
  SequenceWork MakeWork(Sequence* sequence, Tokens count);

  // --- commit.cc ---
  void CommitSequence(InFlight* entry, const SequenceResult& result, const StepResult& step,
                      absl::Time now);
  void CommitTokens(const InFlight& entry, const SequenceResult& result, absl::Time now);
  void AppendToken(Sequence* sequence, const SampledToken& token, absl::Time now);
  // Forgets loads that have ended; publishes what waited for them.
  void SettleLoads(Sequence* sequence);
  void Publish(Sequence* sequence);
  void CountOwnLoad(const CopyResult& result, Sequence* sequence);

  const SchedulerOptions options_;
  const BlockHashFunction block_hash_;
  const std::unique_ptr<const Policy> policy_;
  KvCache kv_;

  absl::flat_hash_map<RequestId, std::unique_ptr<Sequence>> live_;  // never iterated
  WaitingQueue waiting_;
  std::vector<Sequence*> running_;  // in admission order
  std::vector<Event> events_;

  // The step under way. Empty: none.
  std::vector<InFlight> in_flight_;
  StepId last_step_;

  absl::Time now_ = absl::InfinitePast();
  int64_t next_arrival_ = 0;

  // The head of the queue that did not fit, and when: not looked at again before room changes.
  int64_t blocked_arrival_ = -1;
  int64_t blocked_epoch_ = -1;

  // Scratch, kept for its capacity.
  KvMatch match_;
  std::vector<RunningView> views_;
  std::vector<StepShare> shares_;

  // Since start; the rest of SchedulerStats is derived.
  std::array<int64_t, kDecisionCount> decisions_{};
  std::array<Tokens, kTierCount> prompt_tokens_cached_{};
  Tokens prompt_tokens_computed_;
  Tokens tokens_recomputed_;
  Tokens output_tokens_;
  std::array<int64_t, kFinishReasonCount> finished_{};
};

}  // namespace sluice
