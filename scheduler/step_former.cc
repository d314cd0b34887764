// PlanStep(): what runs next, and the copies to start before it.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/impl.h"

namespace sluice {

StepPlan Scheduler::Impl::PlanStep(absl::Time now) {
  SLUICE_CHECK(flights_.empty());
  AdvanceClock(now);
  ExpireWaiting(now);
  kv_.ExpirePins(now);
  ahead_ = 0;
  SteerStores();
  StageAhead();
  CollectCopies();
  AdmitWaiting(now);
  PrefetchAhead();
  ProgressWarms();
  StepPlan plan;
  last_step_ = StepId(last_step_.value() + 1);
  plan.id = last_step_;
  FormStep(&plan);
  CollectCopies();
  plan.copies = std::exchange(copies_, {});
  TakeRevoked(&plan);
  return plan;
}

void Scheduler::Impl::FormStep(StepPlan* plan) {
  if (running_.empty()) return;
  views_.clear();
  shares_.clear();
  int64_t loading = 0;
  for (const Sequence* s : running_) {
    views_.push_back(ViewOf(*s));
    if (!s->lease.loads.empty()) ++loading;
  }
  policy_->FormStep(LookAtMachine(), views_, &shares_);
  if (shares_.empty()) return;
  plan->sequences.reserve(shares_.size());
  BeginFlight(plan->id);
  for (const StepShare& share : shares_) {
    Sequence* sequence = running_[share.index];
    // A gap ends where loaded tokens begin: the rest of the share is for another step.
    plan->sequences.push_back(MakeWork(sequence, {sequence->computed, sequence->known(), -1},
                                       std::min(share.count, sequence->next_span())));
    if (sequence->lease.loads.empty()) continue;
    --loading;
    if (!plan->sequences.back().loads.empty()) Count(Decision::kJoinLoad);
  }
  decisions_[static_cast<size_t>(Decision::kWaitLoad)] += loading;
}

void Scheduler::Impl::BeginFlight(StepId id) {
  flights_.push_back({id, std::exchange(spare_, {})});
  flights_.back().entries.reserve(shares_.size());
}

SequenceWork Scheduler::Impl::MakeWork(Sequence* sequence, const Position& at, Tokens count) {
  const Tokens end = at.first + count;
  SLUICE_CHECK(count > Tokens(0) && end <= at.known);
  kv_.Grow(options_.geometry.BlocksFor(end), &sequence->lease);
  SequenceWork work;
  work.request = sequence->spec.id;
  work.first = at.first;
  work.count = count;
  work.tokens = sequence->tokens;
  work.blocks = sequence->lease.blocks;
  work.host_blocks = sequence->lease.host_blocks;
  // The tokens of a gap attend only to what lies before it.
  work.loads = sequence->in_gap() ? sequence->lease.gap_loads : sequence->lease.loads;
  work.sample = end == at.known;
  work.sampling = work.sample ? sequence->spec.sampling.get() : nullptr;
  work.prompt = sequence->stats.prompt;
  work.output_index = (at.known - sequence->stats.prompt).value();
  work.previous_row = at.previous_row;

  std::vector<InFlight>& entries = flights_.back().entries;
  ++sequence->in_flight;
  sequence->row = static_cast<int32_t>(entries.size());
  InFlight entry;
  entry.sequence = sequence;
  entry.first = work.first;
  entry.count = count;
  entry.sample = work.sample;
  entry.in_place = sequence->in_place;
  entry.had_loads = !work.loads.empty();
  entry.price = cost_.per_token * static_cast<double>(count.value()) +
                AttentionTime(cost_, {work.first, count, sequence->in_place});
  entries.push_back(std::move(entry));
  return work;
}

void Scheduler::Impl::TakeRevoked(StepPlan* plan) {
  kv_.TakeRevoked(&plan->revoked);
  // One that this very plan would start never starts.
  std::erase_if(plan->revoked, [&](CopyId id) {
    const size_t removed =
        std::erase_if(plan->copies, [id](const Copy& copy) { return copy.id == id; });
    if (removed == 0) return false;
    link_clock_.OnEnded(id, now());
    kv_.OnCopyDone(id, CopyOutcome::kRevoked);
    return true;
  });
}

void Scheduler::Impl::CollectCopies() {
  const size_t before = copies_.size();
  kv_.TakeCopies(&copies_);
  for (size_t i = before; i < copies_.size(); ++i) {
    const Copy& copy = copies_[i];
    CopyUnderWay under_way;
    under_way.direction = copy.direction;
    under_way.bytes = options_.geometry.BytesFor(Blocks(static_cast<int64_t>(copy.blocks.size())));
    under_way.runs = RunsOf(copy);
    under_way.price =
        CopyTime(cost_.links[static_cast<size_t>(copy.direction)], under_way.bytes, under_way.runs);
    link_clock_.OnPlanned(copy.id, under_way, now());
  }
}

}  // namespace sluice
