// PlanAhead(): the next step while one is under way, so that the device does not wait for its host.
//
// A step is planned ahead only if it would be right whatever the one under way gives:
//  - Who runs now, runs then, unless it surely ends now. A sequence that ends unexpectedly is
//    computed once more for nothing.
//  - Device blocks come from reservations: whatever they evict, no step reads it.
//  - Loads, gaps and penalties need results: nothing is planned ahead beside them.
//  - Queues wait for a PlanStep() as they wait for room: at most kBlockedSteps.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/impl.h"

namespace sluice {

StepPlan Scheduler::Impl::PlanAhead(absl::Time now) {
  SLUICE_CHECK(flights_.size() == 1);
  AdvanceClock(now);
  StepPlan plan;
  if (!CanPlanAhead()) return plan;
  LookAhead();
  if (views_.empty()) return plan;
  shares_.clear();
  policy_->FormStep(LookAtMachine(), views_, &shares_);
  const auto loads = [this](const StepShare& share) { return !views_[share.index].loads.empty(); };
  if (shares_.empty() || std::any_of(shares_.begin(), shares_.end(), loads)) return plan;

  ++ahead_;
  ++steps_ahead_;
  SteerStores();
  StageAhead();
  last_step_ = StepId(last_step_.value() + 1);
  plan.id = last_step_;
  plan.sequences.reserve(shares_.size());
  BeginFlight(plan.id);
  for (const StepShare& share : shares_) {
    const auto& [sequence, at] = candidates_[share.index];
    const Tokens most = sequence->in_gap() ? sequence->next_span() : at.known - at.first;
    plan.sequences.push_back(MakeWork(sequence, at, std::min(share.count, most)));
  }
  CollectCopies();
  plan.copies = std::exchange(copies_, {});
  TakeRevoked(&plan);
  return plan;
}

bool Scheduler::Impl::CanPlanAhead() {
  if (NextWakeup() <= now_ || !warms_.empty()) return false;
  for (const InFlight& entry : flights_.front().entries) {
    const Sequence& s = *entry.sequence;
    if (s.state == Sequence::State::kEnded) continue;
    // The backend applies penalties to tokens that it must know.
    const bool secret = entry.sample && s.spec.sampling->has_penalties();
    if (entry.had_loads || s.in_gap() || s.load_failed || secret) return false;
  }
  return QueueCanWait();
}

// As in AdmitWaiting(): whether nobody would be admitted now.
bool Scheduler::Impl::QueueCanWait() {
  if (waiting_.empty()) return true;
  if (room_for_.has_value() || ahead_ >= kBlockedSteps) return false;
  if (NoPlace()) return true;
  const Blocked state{kv_.room_epoch(), next_arrival_};
  return state == blocked_ && ++blocked_steps_ < kBlockedSteps;
}

void Scheduler::Impl::LookAhead() {
  views_.clear();
  candidates_.clear();
  const std::vector<InFlight>& entries = flights_.front().entries;
  for (Sequence* s : running_) {
    RunningView view = ViewOf(*s);
    Position at{s->computed, s->known(), -1};
    if (s->in_flight > 0) {
      const InFlight& entry = entries[static_cast<size_t>(s->row)];
      at.first = entry.end();
      if (entry.sample) {
        at.known += Tokens(1);
        at.previous_row = s->row;
        if (at.known == s->max_length()) continue;  // ends with the token under way
      }
      view.first = at.first;
      view.remaining = at.known - at.first;
      view.decoding = at.known > s->stats.prompt && view.remaining == Tokens(1);
    }
    views_.push_back(view);
    candidates_.emplace_back(s, at);
  }
}

}  // namespace sluice
