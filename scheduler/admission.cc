// Who leaves the queue: deadlines, admission in the policy's order, preemption.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/impl.h"

namespace sluice {

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
  while (!waiting_.empty()) {
    Sequence* head = waiting_.front();
    const bool known_blocked =
        head->arrival == blocked_arrival_ && kv_.room_epoch() == blocked_epoch_;
    if (known_blocked || !MakeRoom(head)) {
      blocked_arrival_ = head->arrival;
      blocked_epoch_ = kv_.room_epoch();
      Count(Decision::kWaitBlocks);
      return;
    }
    Admit(head, now);
  }
}

bool Scheduler::Impl::MakeRoom(Sequence* head) {
  const auto fits = [&] {
    MatchPrefix(head);
    return !Full() && kv_.Fits(match_, options_.geometry.BlocksFor(head->max_length()));
  };
  if (Full() && !options_.preemption) return false;
  if (fits()) return true;
  if (!options_.preemption || !PreemptFor(head)) return false;
  return fits();  // not yet, if a copy still holds a victim's blocks
}

bool Scheduler::Impl::PreemptFor(Sequence* head) {
  std::vector<Sequence*> victims;
  const WaitingView head_view = head->waiting_view();
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    if (policy_->MayPreempt(head_view, (*it)->running_view())) victims.push_back(*it);
  }
  if (victims.empty()) return false;
  // Latest admitted first, among equals.
  std::stable_sort(victims.begin(), victims.end(), [this](const Sequence* a, const Sequence* b) {
    return policy_->PreemptsOlder(a->running_view(), b->running_view());
  });
  std::vector<const KvLease*> leases;
  for (const Sequence* victim : victims) leases.push_back(&victim->lease);
  const std::optional<size_t> for_blocks =
      kv_.VictimsNeeded(match_, options_.geometry.BlocksFor(head->max_length()), leases);
  if (!for_blocks.has_value()) return false;
  const size_t needed = std::max(*for_blocks, Full() ? size_t{1} : size_t{0});
  for (size_t i = 0; i < needed; ++i) {
    ++victims[i]->stats.preemptions;
    Count(Requeue(victims[i]) ? Decision::kPreemptSwap : Decision::kPreemptRecompute);
  }
  return needed > 0;
}

bool Scheduler::Impl::Requeue(Sequence* sequence) {
  SLUICE_CHECK(!sequence->in_flight);
  const bool backed = ReleaseBlocks(sequence);
  RemoveFromRunning(sequence);
  sequence->computed = Tokens(0);
  sequence->load_failed = false;
  sequence->joinable = true;
  sequence->resumed = true;
  sequence->state = Sequence::State::kWaiting;
  waiting_.Add(sequence);
  return backed;
}

void Scheduler::Impl::ExtendHashes(Sequence* sequence, Blocks count) {
  if (!options_.prefix_caching) return;
  const size_t width = options_.geometry.tokens_per_block.size();
  const std::span<const TokenId> tokens(sequence->tokens);
  std::vector<Hash128>& hashes = sequence->hashes;
  while (hashes.size() < count.size()) {
    const Hash128 parent =
        hashes.empty() ? RootHash(options_.cache_seed, sequence->spec.cache_salt) : hashes.back();
    hashes.push_back(block_hash_(parent, tokens.subspan(hashes.size() * width, width)));
  }
}

void Scheduler::Impl::MatchPrefix(Sequence* sequence) {
  // At least one token is computed, to have logits to draw from.
  const Blocks limit = options_.geometry.FullBlocks(sequence->known() - Tokens(1));
  ExtendHashes(sequence, limit);
  kv_.Match(sequence->path(), limit, &match_);
}

void Scheduler::Impl::Admit(Sequence* sequence, absl::Time now) {
  waiting_.Remove(sequence);
  const Blocks total = options_.geometry.BlocksFor(sequence->max_length());
  const KvAdmission admission = kv_.Admit(match_, total, sequence->spec.id, &sequence->lease);
  const KvGeometry& geometry = options_.geometry;
  sequence->computed = geometry.TokensIn(admission.device + admission.host);
  sequence->ever_computed = std::max(sequence->ever_computed, sequence->computed);
  sequence->state = Sequence::State::kRunning;
  running_.push_back(sequence);
  sequence->own_load = admission.load;
  if (admission.load.valid()) {
    sequence->own_load_bytes = geometry.BytesFor(admission.loaded);
    sequence->own_load_issued = now;
    sequence->stats.loaded += sequence->own_load_bytes;
  }
  const bool loads = !sequence->lease.loads.empty();
  Count(loads ? Decision::kAdmitLoad : Decision::kAdmitResident);
  if (sequence->resumed) return;

  // The first admission is the one the statistics tell of.
  RequestStats& stats = sequence->stats;
  stats.admitted = now;
  stats.plan = loads ? RequestPlan::kLoad : RequestPlan::kResident;
  stats.cached[static_cast<size_t>(Tier::kDevice)] = geometry.TokensIn(admission.device);
  stats.cached[static_cast<size_t>(Tier::kHost)] = geometry.TokensIn(admission.host);
  stats.computed = stats.prompt - sequence->computed;
  for (size_t tier = 0; tier < kTierCount; ++tier) {
    prompt_tokens_cached_[tier] += stats.cached[tier];
  }
  prompt_tokens_computed_ += stats.computed;
}

}  // namespace sluice
