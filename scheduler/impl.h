// Scheduler::Impl: the state machine behind the facade. Its methods are spread over
//   scheduler.cc    Submit, Cancel, ends, numbers
//   admission.cc    deadlines, admission, preemption, revocation
//   lookahead.cc    staging and prefetch for those who wait
//   offload.cc      pacing and gating of stores
//   forecast.cc     predictions, Explain
//   views.cc        what a policy sees
//   step_former.cc  PlanStep
//   plan_ahead.cc   PlanAhead
//   commit.cc       CommitStep, OnCopyDone
//   found_blocks.cc   FindMissing, AdoptFound
//   cache_control.cc  Warm, Evict, pins that give way
//   invariants.cc   CheckInvariants
// Not part of the interface.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "scheduler/cost/online_calibration.h"
#include "scheduler/disk_gate.h"
#include "scheduler/kv/kv_cache.h"
#include "scheduler/link_clock.h"
#include "scheduler/offload_guard.h"
#include "scheduler/policy/policy.h"
#include "scheduler/policy/pressure.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/waiting_room.h"

namespace sluice {

class Scheduler::Impl {
 public:
  Impl(const SchedulerOptions& options, BlockHashFunction block_hash);

  std::vector<BlockId> Adopt(std::span<const StoredBlock> blocks);
  PromptBlocks FindMissing(const RequestSpec& spec);
  std::vector<StoredBlock> AdoptFound(const RequestSpec& spec, const PromptBlocks& prompt,
                                      size_t found);
  absl::Status Submit(RequestSpec spec, absl::Time now);
  Explanation Explain(RequestSpec spec, absl::Time now);
  void Cancel(RequestId id, absl::Time now);
  void OnCopyDone(const CopyResult& result, absl::Time now);
  StepPlan PlanStep(absl::Time now);
  StepPlan PlanAhead(absl::Time now);
  void CommitStep(const StepResult& result, absl::Time now);
  std::vector<Event> TakeEvents();
  absl::Status Warm(WarmSpec spec, absl::Time now);
  std::vector<WarmResult> TakeWarmResults();
  EvictResult Evict(const EvictSpec& spec, absl::Time now);
  KvEvents TakeKvEvents() { return kv_.TakeEvents(); }
  KvEvents ListKvBlocks() const { return kv_.ListBlocks(); }
  absl::Time NextWakeup() const;
  bool idle() const { return live_.empty(); }
  SchedulerStats stats() const;
  absl::Status CheckInvariants() const;

 private:
  // Steps after which a blocked queue is looked at again though no room has come.
  static constexpr int64_t kBlockedSteps = 16;

  // One sequence of a step under way.
  struct InFlight {
    Sequence* sequence = nullptr;
    Tokens first;
    Tokens count;
    bool sample = false;
    bool had_loads = false;
    Tokens in_place;
    Seconds price;  // attention and token time, for its share of the step
    // Keeps `sequence` if it has ended; in the newest step that computes it.
    std::unique_ptr<Sequence> ended;

    Tokens end() const { return first + count; }
  };
  // A step under way.
  struct Flight {
    StepId id;
    std::vector<InFlight> entries;

    bool Computes(const Sequence& sequence) const {
      const auto row = static_cast<size_t>(sequence.row);
      return row < entries.size() && entries[row].sequence == &sequence;
    }
  };
  // Where a sequence goes on in the step being formed.
  struct Position {
    Tokens first;
    Tokens known;               // tokens it has by then
    int32_t previous_row = -1;  // SequenceWork::previous_row of the last of them
  };

  // --- scheduler.cc ---
  void AdvanceClock(absl::Time now);
  absl::Status CheckSpec(const RequestSpec& spec) const;
  std::unique_ptr<Sequence> MakeSequence(RequestSpec spec);
  // Puts a new arrival into the queue, unless its deadline cannot be met.
  absl::Status Enqueue(std::unique_ptr<Sequence> owned);
  int32_t TenantIndex(const std::string& tenant);
  double KappaCritical() const;
  void Count(Decision decision) { ++decisions_[static_cast<size_t>(decision)]; }
  // Ends a live sequence: Finish event (with `token`, if any), blocks released, forgotten.
  void End(Sequence* sequence, FinishReason reason, absl::Status status, absl::Time now,
           std::optional<SampledToken> token = std::nullopt);
  // Books the device memory a running sequence has held since it was admitted.
  void ChargeHold(Sequence* sequence);
  void ReleaseBlocks(Sequence* sequence);
  void RemoveFromRunning(Sequence* sequence);

  // --- views.cc ---
  Seconds Elapsed(absl::Time t) const { return ToSeconds(t - origin_); }
  Seconds now() const { return Elapsed(now_); }
  void ExtendHashes(Sequence* sequence, Blocks count);
  // Continues the hashes of a prompt's blocks until there are `count`.
  void ChainHashes(std::span<const TokenId> tokens, uint64_t salt, size_t count,
                   std::vector<Hash128>* hashes) const;
  // Looks up what the cache holds of a waiting sequence; fills match_.
  void MatchPrefix(Sequence* sequence);
  // The same, as a view with prices.
  WaitingView LookAt(Sequence* sequence);
  void Price(WaitingView* view) const;
  // Guesses: time per output token; how long a running request will still hold its blocks.
  Seconds TokenTime() const;
  Seconds HoldLeft(const Sequence& sequence) const;
  // Renews the view of one that waits. Returns whether what is cached of it has changed.
  bool Renew(size_t index);
  // Renews some views whose cached state may have changed, a bounded amount of work per step.
  void RenewSome();
  RunningView ViewOf(const Sequence& sequence) const;
  MachineView LookAtMachine() const;
  Seconds LongestStep() const;

  // --- admission.cc ---
  bool Full() const { return static_cast<int64_t>(running_.size()) >= options_.max_running; }
  // As many run as may, and nobody waits who could take another's place.
  bool NoPlace() const { return Full() && !mixed_priorities_; }
  void ExpireWaiting(absl::Time now);
  void AdmitWaiting(absl::Time now);
  void AdmitSome(absl::Time now);
  // One choice of the policy. Returns whether to ask it again.
  bool AdmitOne(absl::Time now);
  // Nobody is admitted for lack of room.
  void Block();
  bool AdmitRoomHolder(absl::Time now);
  // The next three take match_ to be of the request chosen.
  bool Fits(const Sequence& sequence, const Choice& choice) const;
  // Takes from others what a choice that does not fit may take. Returns whether it took anything.
  bool MakeRoom(const Choice& choice);
  void Admit(size_t index, const Choice& choice, const MachineView& machine, absl::Time now);
  // Fills the sequence's lease from match_, and says where it starts computing.
  KvAdmission TakeBlocks(Sequence* sequence, const KvUse& use);
  void NoteInterval();
  void NoteFirstAdmission(Sequence* sequence, const KvAdmission& admission, absl::Time now);
  // What of match_ can be used if nothing is loaded.
  KvUse UseWithoutLoads() const;
  KvUse UseFor(const Choice& choice) const;
  // Puts a running sequence back into the queue. Its tokens stay; `revoke`: its loads do not.
  // Returns whether all its KV is on the host or on its way there.
  bool Requeue(Sequence* sequence, bool revoke = false);

  // --- forecast.cc ---
  // The plan the policy would choose for a request that came now.
  PlanPrice PlanFor(const MachineView& machine, const Pressure& pressure,
                    const WaitingView& view) const;
  // From now on, with the queue as it is.
  Seconds PredictFirstToken(const WaitingView& view, const PlanPrice& plan) const;
  absl::Status CheckDeadline(const WaitingView& view, Seconds predicted, const PlanPrice& plan);

  // --- lookahead.cc ---
  // Bring KV of waiting requests closer where links are idle: from disk to host before anybody is
  // admitted, from host to device for who could not be.
  void StageAhead();
  void PrefetchAhead();
  void StageFor(size_t index);
  void PrefetchFor(Sequence* sequence);

  // --- offload.cc ---
  void SteerStores();
  // What an admission saved by KV that is off the device, and what a store cost. For guard_.
  void AccountUse(const MachineView& machine, const WaitingView& view, const Choice& choice);
  void AccountStore(const CopyUnderWay& copy, const CopyResult& result);

  // --- cache_control.cc ---
  struct WarmTask {
    WarmSpec spec;
    std::vector<Hash128> hashes;  // of the full blocks
    int64_t looked_at = -1;       // KvCache::content_epoch() then
    Blocks full() const { return Blocks(static_cast<int64_t>(hashes.size())); }
    TokenPath path() const { return {spec.tokens, hashes, spec.cache_salt}; }
  };
  std::vector<Hash128> HashesOf(std::span<const TokenId> tokens, uint64_t salt) const;
  // `full`: blocks of the prompt; match_ is of it.
  absl::Status CheckWarm(const WarmSpec& spec, Blocks full);
  // The next two leave match_ as of the task's prompt.
  void MatchAndPin(const WarmTask& task);
  // Plans copies towards the task's tier. Returns how many blocks.
  Blocks MoveForWarm(const WarmTask& task);
  WarmResult ResultOf(const WarmTask& task) const;  // from match_
  // Returns whether the task has ended.
  bool Progress(WarmTask* task);
  void ProgressWarms();
  // The next end of a pin, or deadline of a task.
  absl::Time NextControlEvent() const;
  // Ends pins that a waiting request could not be admitted beside, whoever else has gone.
  void YieldPinsToWaiting();
  // Ends all pins of the device if nothing else holds the waiting back. Returns whether it did.
  bool YieldAllPins();

  // --- step_former.cc ---
  void FormStep(StepPlan* plan);
  // Adds a step of shares_.size() sequences to flights_.
  void BeginFlight(StepId id);
  // Makes the newest of flights_ compute `count` tokens of it.
  SequenceWork MakeWork(Sequence* sequence, const Position& at, Tokens count);
  // Takes the copies planned since the last call, so that the links' queues are known before the
  // plan is complete.
  void CollectCopies();
  void TakeRevoked(StepPlan* plan);

  // --- invariants.cc ---
  absl::Status CheckFlights() const;

  // --- plan_ahead.cc ---
  // Whether nothing needs the results of the step under way, or a PlanStep(), first.
  bool CanPlanAhead();
  bool QueueCanWait();
  // Where those that run will be when the step under way has ended: fills candidates_ and views_.
  void LookAhead();

  // --- commit.cc ---
  void CommitSequence(InFlight* entry, const SequenceResult& result, const StepResult& step,
                      absl::Time now);
  void ReleaseEnded(Sequence* sequence);
  void CommitTokens(const InFlight& entry, const SequenceResult& result, absl::Time now);
  void AppendToken(Sequence* sequence, const SampledToken& token, absl::Time now);
  // Splits the time of a step among its sequences, for fairness and statistics.
  void ChargeStep(const std::vector<InFlight>& entries, const StepResult& result);
  // What was measured, for calibration_.
  void ObserveStep(const std::vector<InFlight>& entries, const StepResult& result);
  void ObserveCopy(const CopyUnderWay& copy, const CopyResult& result);
  void WatchDisk(LinkDirection direction, const CopyResult& result);
  // Forgets loads that have ended; publishes what waited for them.
  void SettleLoads(Sequence* sequence);
  void Publish(Sequence* sequence);
  void CountOwnLoad(const CopyResult& result, Sequence* sequence);

  const SchedulerOptions options_;
  const BlockHashFunction block_hash_;
  const std::unique_ptr<Policy> policy_;
  const PolicyTraits traits_;
  KvCache kv_;
  OnlineCalibration calibration_;
  const CostCoefficients& cost_;  // as stated, or as refined by calibration_
  LinkClock link_clock_;
  OffloadGuard guard_;
  DiskGate disk_reads_;
  DiskGate disk_writes_;

  absl::flat_hash_map<RequestId, std::unique_ptr<Sequence>> live_;  // never iterated
  WaitingRoom waiting_;
  std::vector<Sequence*> running_;  // in admission order
  std::vector<Event> events_;
  absl::flat_hash_map<std::string, int32_t> tenants_;  // never iterated

  std::vector<Flight> flights_;  // steps under way, oldest first: none, one, or one more ahead
  std::vector<InFlight> spare_;  // empty, kept for its capacity
  StepId last_step_;
  int64_t ahead_ = 0;  // steps planned ahead since the last PlanStep()

  absl::Time origin_ = absl::InfinitePast();  // first `now`
  absl::Time now_ = absl::InfinitePast();
  int64_t next_arrival_ = 0;

  // The state of things when nobody was admitted for lack of room: nobody is tried again before it
  // changes, or kBlockedSteps have passed (what is cached, and the time, change all the while).
  struct Blocked {
    int64_t room = -1;
    int64_t newest = -1;
    friend bool operator==(const Blocked&, const Blocked&) = default;
  };
  Blocked blocked_;
  int64_t blocked_steps_ = 0;  // since it was last tried
  // Who has been made room for and is not admitted yet.
  struct RoomHolder {
    Sequence* sequence = nullptr;
    Choice choice;
  };
  std::optional<RoomHolder> room_for_;
  Sequence* next_ = nullptr;  // who would be admitted if there were room; this PlanStep only
  size_t renew_at_ = 0;       // where RenewSome() goes on

  std::optional<int32_t> priority_;  // of the first request
  bool mixed_priorities_ = false;    // another one was seen since

  // Time between admissions while requests waited: bounded exponential average.
  Seconds admission_interval_;
  Seconds admission_clock_;  // of the last admission, or when the queue began

  // Mean time of steps with decodes, of late: what an output token costs.
  Seconds mean_step_;

  // Share of its max_new that a request gave, learned from those that ended: the only hint at how
  // long one will decode.
  double output_share_ = 0.5;

  std::vector<Copy> copies_;  // of the plan being made

  std::vector<WarmTask> warms_;  // under way, oldest first
  std::vector<WarmResult> warm_results_;

  // Scratch, kept for its capacity.
  KvMatch match_;
  std::vector<RunningView> views_;
  std::vector<std::pair<Sequence*, Position>> candidates_;  // of views_
  std::vector<StepShare> shares_;
  std::vector<StepPart> parts_;

  // Since start; the rest of SchedulerStats is derived.
  std::array<int64_t, kDecisionCount> decisions_{};
  std::array<Tokens, kTierCount> prompt_tokens_cached_{};
  int64_t steps_ahead_ = 0;
  Tokens prompt_tokens_computed_;
  Tokens tokens_recomputed_;
  Tokens output_tokens_;
  Blocks disk_corrupt_;
  std::array<int64_t, kFinishReasonCount> finished_{};
};

}  // namespace sluice
