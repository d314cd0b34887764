// PlanStep(): what runs next, and the copies to start before it.
#include "scheduler/base/check.h"
#include "scheduler/impl.h"

namespace sluice {

StepPlan Scheduler::Impl::PlanStep(absl::Time now) {
  SLUICE_CHECK(in_flight_.empty());
  AdvanceClock(now);
  ExpireWaiting(now);
  AdmitWaiting(now);
  StepPlan plan;
  last_step_ = StepId(last_step_.value() + 1);
  plan.id = last_step_;
  FormStep(&plan);
  kv_.TakeCopies(&plan.copies);
  return plan;
}

void Scheduler::Impl::FormStep(StepPlan* plan) {
  views_.clear();
  shares_.clear();
  int64_t loading = 0;
  for (const Sequence* s : running_) {
    views_.push_back(s->running_view());
    if (!s->lease.loads.empty()) ++loading;
  }
  policy_->FormStep(views_, options_.step_token_limit, &shares_);
  plan->sequences.reserve(shares_.size());
  in_flight_.reserve(shares_.size());
  for (const StepShare& share : shares_) {
    Sequence* sequence = running_[share.index];
    plan->sequences.push_back(MakeWork(sequence, share.count));
    if (sequence->lease.loads.empty()) continue;
    --loading;
    Count(Decision::kJoinLoad);
  }
  decisions_[static_cast<size_t>(Decision::kWaitLoad)] += loading;
}

SequenceWork Scheduler::Impl::MakeWork(Sequence* sequence, Tokens count) {
  const Tokens end = sequence->computed + count;
  SLUICE_CHECK(count > Tokens(0) && end <= sequence->known() && !sequence->in_flight);
  kv_.Grow(options_.geometry.BlocksFor(end), &sequence->lease);
  SequenceWork work;
  work.request = sequence->spec.id;
  work.first = sequence->computed;
  work.count = count;
  work.tokens = sequence->tokens;
  work.blocks = sequence->lease.blocks;
  work.loads = sequence->lease.loads;
  work.sample = end == sequence->known();
  work.sampling = work.sample ? sequence->spec.sampling.get() : nullptr;
  work.prompt = sequence->stats.prompt;
  work.output_index = sequence->stats.output.value();

  sequence->in_flight = true;
  InFlight entry;
  entry.sequence = sequence;
  entry.first = work.first;
  entry.count = count;
  entry.sample = work.sample;
  entry.had_loads = !work.loads.empty();
  in_flight_.push_back(std::move(entry));
  return work;
}

}  // namespace sluice
