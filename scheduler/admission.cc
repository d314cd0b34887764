// Who leaves the queue: deadlines, the policy's choices, preemption and revocation.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/impl.h"

namespace sluice {
namespace {

Decision AdmissionOf(RequestPlan plan) {
  switch (plan) {
    case RequestPlan::kResident:
      return Decision::kAdmitResident;
    case RequestPlan::kLoad:
      return Decision::kAdmitLoad;
    case RequestPlan::kSplit:
      return Decision::kAdmitSplit;
    case RequestPlan::kInPlace:
      return Decision::kAdmitInPlace;
    case RequestPlan::kRecompute:
      return Decision::kAdmitRecompute;
  }
  return Decision::kAdmitLoad;
}

// What became of a choice, given what was cached when it took effect.
RequestPlan PlanInEffect(const Sequence& sequence, const Choice& choice, const WaitingView& view) {
  if (sequence.in_place > Tokens(0)) return RequestPlan::kInPlace;
  if (!sequence.lease.loads.empty()) {
    return sequence.in_gap() ? RequestPlan::kSplit : RequestPlan::kLoad;
  }
  if (sequence.in_gap()) return RequestPlan::kRecompute;
  const bool left_out = view.on_host > Tokens(0) && choice.plan == RequestPlan::kRecompute;
  return left_out ? RequestPlan::kRecompute : RequestPlan::kResident;
}

}  // namespace

void Scheduler::Impl::ExpireWaiting(absl::Time now) {
  for (Sequence* s = waiting_.earliest_deadline();
       s != nullptr && s->spec.first_token_deadline <= now; s = waiting_.earliest_deadline()) {
    const absl::Duration waited = now - s->stats.arrival;
    End(s, FinishReason::kDeadline,
        absl::DeadlineExceededError(absl::StrCat("first_token_deadline passed after ",
                                                 absl::FormatDuration(waited), " in the queue")),
        now);
  }
}

void Scheduler::Impl::AdmitWaiting(absl::Time now) {
  next_ = nullptr;
  if (waiting_.empty()) return;
  YieldPinsToWaiting();
  if (NoPlace()) return Count(Decision::kWaitBlocks);
  const Blocked state{kv_.room_epoch(), next_arrival_};
  if (state == blocked_ && !running_.empty() && ++blocked_steps_ < kBlockedSteps) {
    Count(Decision::kWaitBlocks);
    return;
  }
  RenewSome();
  AdmitSome(now);
  if (YieldAllPins()) AdmitSome(now);
}

void Scheduler::Impl::AdmitSome(absl::Time now) {
  blocked_ = Blocked();
  next_ = nullptr;
  while (!waiting_.empty() && !NoPlace() && AdmitOne(now)) {
  }
}

void Scheduler::Impl::Block() {
  blocked_ = {kv_.room_epoch(), next_arrival_};
  blocked_steps_ = 0;
  Count(Decision::kWaitBlocks);
}

bool Scheduler::Impl::AdmitOne(absl::Time now) {
  if (room_for_.has_value()) return AdmitRoomHolder(now);
  const MachineView machine = LookAtMachine();
  const Verdict verdict = policy_->Pick(machine, waiting_.views());
  if (!verdict.choice.has_value()) {
    next_ = verdict.next.has_value() ? waiting_.at(*verdict.next) : nullptr;
    if (verdict.pass == Decision::kWaitBlocks) {
      Block();
    } else {
      Count(verdict.pass);
    }
    return false;
  }
  const Choice& choice = *verdict.choice;
  SLUICE_CHECK(choice.index < waiting_.size());
  Sequence* sequence = waiting_.at(choice.index);
  if (sequence->looked_at == kv_.content_epoch()) {
    MatchPrefix(sequence);
  } else if (Renew(choice.index)) {
    return true;
  }
  if (Fits(*sequence, choice)) {
    Admit(choice.index, choice, machine, now);
    return true;
  }
  if (MakeRoom(choice)) {
    room_for_ = RoomHolder{sequence, choice};
    return true;
  }
  next_ = sequence;
  Block();
  return false;
}

// Others have made room for a request, but copies may still hold their blocks: until they end,
// nobody else is admitted, or its victims would be admitted and preempted in turn.
bool Scheduler::Impl::AdmitRoomHolder(absl::Time now) {
  Sequence* sequence = room_for_->sequence;
  Choice choice = room_for_->choice;
  choice.index = waiting_.IndexOf(sequence);
  const auto outranks = [&](const WaitingView& w) { return w.priority > sequence->spec.priority; };
  if (std::any_of(waiting_.views().begin(), waiting_.views().end(), outranks)) {
    room_for_.reset();
    return true;
  }
  Renew(choice.index);
  if (Fits(*sequence, choice)) {
    room_for_.reset();
    Admit(choice.index, choice, LookAtMachine(), now);
    return true;
  }
  if (MakeRoom(choice)) return true;
  Block();
  return false;
}

// The device blocks up to the first that is not there, and those behind it up to the next such gap:
// the first gap is computed again, and what follows it is of use.
KvUse Scheduler::Impl::UseWithoutLoads() const {
  const auto has_device = [this](NodeId id) { return kv_.index().node(id).HasDevice(); };
  const auto begin = match_.nodes.begin();
  const auto end = begin + match_.usable.value();
  const auto gap = std::find_if_not(begin, end, has_device);
  const auto behind = std::find_if(gap, end, has_device);
  const auto used = behind == end ? gap : std::find_if_not(behind, end, has_device);
  KvUse use;
  use.use = Blocks(used - begin);
  use.recompute = Blocks(behind == end ? 0 : behind - gap);
  return use;
}

KvUse Scheduler::Impl::UseFor(const Choice& choice) const {
  KvUse use;
  switch (choice.plan) {
    case RequestPlan::kRecompute:
      use = UseWithoutLoads();
      break;
    case RequestPlan::kSplit:
      use.recompute = options_.geometry.FullBlocks(choice.recompute);
      break;
    case RequestPlan::kInPlace:
      use.in_place = options_.attend_in_place;
      break;
    default:
      break;
  }
  return use;
}

bool Scheduler::Impl::Fits(const Sequence& sequence, const Choice& choice) const {
  const Blocks total = options_.geometry.BlocksFor(sequence.max_length());
  return !Full() && kv_.Fits(match_, total, UseFor(choice));
}

bool Scheduler::Impl::MakeRoom(const Choice& choice) {
  const WaitingView& head = waiting_.view(choice.index);
  std::vector<Sequence*> victims;
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    Sequence* s = *it;
    const bool revocable = choice.overdue && traits_.revokes_loads && s->arrival > head.arrival &&
                           !s->lease.loads.empty() && s->spec.priority <= head.priority;
    const bool preemptible = options_.preemption && policy_->MayPreempt(head, ViewOf(*s));
    if (revocable || preemptible) victims.push_back(s);
  }
  if (victims.empty()) return false;
  // Latest admitted first, among equals.
  std::stable_sort(victims.begin(), victims.end(), [this](const Sequence* a, const Sequence* b) {
    return policy_->PreemptsOlder(ViewOf(*a), ViewOf(*b));
  });
  std::vector<const KvLease*> leases;
  for (const Sequence* victim : victims) leases.push_back(&victim->lease);
  const Blocks total = options_.geometry.BlocksFor(waiting_.at(choice.index)->max_length());
  const std::optional<size_t> for_blocks = kv_.VictimsNeeded(match_, total, UseFor(choice), leases);
  if (!for_blocks.has_value()) return false;
  const size_t needed = std::max(*for_blocks, Full() ? size_t{1} : size_t{0});
  for (size_t i = 0; i < needed; ++i) {
    ++victims[i]->stats.preemptions;
    const bool loading = !victims[i]->lease.loads.empty();
    const bool backed = Requeue(victims[i], /*revoke=*/loading);
    Count(loading ? Decision::kRevokeLoad
                  : (backed ? Decision::kPreemptSwap : Decision::kPreemptRecompute));
  }
  return needed > 0;
}

bool Scheduler::Impl::Requeue(Sequence* sequence, bool revoke) {
  SLUICE_CHECK(sequence->in_flight == 0);
  ChargeHold(sequence);
  const Blocks full = options_.geometry.FullBlocks(sequence->computed);
  const bool backed = revoke ? kv_.Revoke(full, &sequence->lease)
                             : kv_.Release(full, &sequence->lease, /*returns=*/true);
  RemoveFromRunning(sequence);
  sequence->computed = Tokens(0);
  sequence->gap_end = Tokens(0);
  sequence->resume_at = Tokens(0);
  sequence->in_place = Tokens(0);
  sequence->load_failed = false;
  sequence->joinable = true;
  sequence->resumed = true;
  sequence->state = Sequence::State::kWaiting;
  waiting_.Add(sequence, LookAt(sequence));
  return backed;
}

KvAdmission Scheduler::Impl::TakeBlocks(Sequence* sequence, const KvUse& use) {
  const KvGeometry& geometry = options_.geometry;
  const Blocks total = geometry.BlocksFor(sequence->max_length());
  const KvAdmission admission = kv_.Admit(match_, total, use, sequence->spec.id, &sequence->lease);
  const KvLease& lease = sequence->lease;
  const Tokens used = geometry.TokensIn(admission.device + admission.host + admission.gap);
  sequence->computed = used;
  if (lease.gap_begin < lease.gap_end) {
    sequence->computed = geometry.TokensIn(lease.gap_begin);
    sequence->gap_end = geometry.TokensIn(lease.gap_end);
    sequence->resume_at = used;
  }
  const Blocks full = geometry.FullBlocks(sequence->known());
  ExtendHashes(sequence, full);
  if (options_.prefix_caching) kv_.Claim(sequence->path(), full, &sequence->lease);
  sequence->in_place = geometry.TokensIn(admission.in_place);
  sequence->ever_computed = std::max(sequence->ever_computed, sequence->computed);
  return admission;
}

void Scheduler::Impl::Admit(size_t index, const Choice& choice, const MachineView& machine,
                            absl::Time now) {
  Sequence* sequence = waiting_.at(index);
  const WaitingView view = waiting_.view(index);
  policy_->OnAdmitted(machine, view, choice);
  AccountUse(machine, view, choice);
  KvUse use = UseFor(choice);
  use.rank = policy_->LoadRank(machine, view);
  waiting_.Remove(sequence);
  NoteInterval();

  const KvAdmission admission = TakeBlocks(sequence, use);
  CollectCopies();
  sequence->state = Sequence::State::kRunning;
  sequence->holds_since = now;
  running_.push_back(sequence);
  sequence->own_load = admission.load;
  if (admission.load.valid()) {
    sequence->own_load_bytes = options_.geometry.BytesFor(admission.loaded);
    sequence->own_load_issued = now;
    sequence->stats.loaded += sequence->own_load_bytes;
  }
  const RequestPlan plan = PlanInEffect(*sequence, choice, view);
  Count(AdmissionOf(plan));
  if (choice.overdue) Count(Decision::kAdmitOverdue);
  if (sequence->resumed) return;
  sequence->stats.plan = plan;
  NoteFirstAdmission(sequence, admission, now);
}

void Scheduler::Impl::NoteInterval() {
  const Seconds interval = now() - std::exchange(admission_clock_, now());
  admission_interval_ += (interval - admission_interval_) / 32;
}

// The first admission is the one the statistics tell of.
void Scheduler::Impl::NoteFirstAdmission(Sequence* sequence, const KvAdmission& admission,
                                         absl::Time now) {
  const KvGeometry& geometry = options_.geometry;
  RequestStats& stats = sequence->stats;
  stats.admitted = now;
  stats.attended_in_place = geometry.TokensIn(admission.in_place);
  stats.cached[static_cast<size_t>(Tier::kDevice)] = geometry.TokensIn(admission.device);
  const Blocks from_host = admission.host - admission.from_disk;
  stats.cached[static_cast<size_t>(Tier::kHost)] = geometry.TokensIn(from_host);
  stats.cached[static_cast<size_t>(options_.storage_tier)] = geometry.TokensIn(admission.from_disk);
  const Blocks used = admission.device + admission.host;
  stats.computed = stats.prompt - geometry.TokensIn(used);
  const Blocks known(static_cast<int64_t>(match_.nodes.size()));
  stats.cached_recomputed = geometry.TokensIn(known - used);
  for (size_t tier = 0; tier < kTierCount; ++tier) {
    prompt_tokens_cached_[tier] += stats.cached[tier];
  }
  prompt_tokens_computed_ += stats.computed;
}

}  // namespace sluice
