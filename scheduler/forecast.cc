// What a request can expect: prices of its plans, and when its first token should come.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/impl.h"

namespace sluice {
namespace {

// A deadline is refused at once if the prediction misses it by this factor, or if it could not be
// met even by going first: predictions of queues are rough.
constexpr double kDoubt = 2;

}  // namespace

Seconds Scheduler::Impl::PredictFirstToken(const WaitingView& view, const PlanPrice& plan) const {
  Seconds link, compute;
  double block_seconds = 0;
  int64_t ahead = 0;
  for (const WaitingView& w : waiting_.views()) {
    if (w.request == view.request || !policy_->ServesBefore(w, view)) continue;
    link += w.load;
    compute += w.compute;
    block_seconds += static_cast<double>(w.need.value()) * w.hold.value();
    ++ahead;
  }
  const Seconds memory(block_seconds / static_cast<double>(options_.device_blocks.value()));
  Seconds queue = std::max({link, compute, memory});
  // Without room it also waits for somebody to end, as all before it do.
  if (view.need > kv_.available()) {
    queue = std::max(queue, admission_interval_ * static_cast<double>(ahead + 1));
  }
  return queue + plan.ready;
}

PlanPrice Scheduler::Impl::PlanFor(const MachineView& machine, const Pressure& pressure,
                                   const WaitingView& view) const {
  if (policy_->traits().chooses_plans) return CheapestPlan(machine, pressure, view);
  return PriceOf(view.on_host > Tokens(0) ? RequestPlan::kLoad : RequestPlan::kResident, machine,
                 pressure, view);
}

absl::Status Scheduler::Impl::CheckDeadline(const WaitingView& view, Seconds predicted,
                                            const PlanPrice& plan) {
  if (!options_.refuse_late || view.deadline == kNever) return absl::OkStatus();
  const Seconds left = view.deadline - now();
  if (plan.ready <= left && predicted <= left * kDoubt) return absl::OkStatus();
  Count(Decision::kRefuseDeadline);
  return absl::ResourceExhaustedError(
      absl::StrCat("first token is due in ", absl::FormatDuration(ToDuration(left)),
                   " and predicted in ", absl::FormatDuration(ToDuration(predicted)),
                   "; retry later, elsewhere, or with a later deadline"));
}

Explanation Scheduler::Impl::Explain(RequestSpec spec, absl::Time now) {
  AdvanceClock(now);
  Explanation result;
  result.status = CheckSpec(spec);
  if (!result.status.ok()) return result;
  const std::unique_ptr<Sequence> sequence = MakeSequence(std::move(spec));
  const WaitingView view = LookAt(sequence.get());
  const MachineView machine = LookAtMachine();
  const Pressure pressure = PressureOf(machine, waiting_.views());
  const PlanPrice chosen = PlanFor(machine, pressure, view);
  result.prompt = view.tokens;
  result.on_device = view.on_device;
  result.on_host = view.on_host;
  result.on_disk = view.on_disk;
  result.pending = view.pending;
  result.plan = chosen.plan;
  for (int i = 0; i < kRequestPlanCount; ++i) {
    const PlanPrice price = PriceOf(static_cast<RequestPlan>(i), machine, pressure, view);
    result.plans[static_cast<size_t>(i)] = {price.ready < kNever, ToDuration(price.link),
                                            ToDuration(price.compute), ToDuration(price.ready),
                                            price.price.value()};
  }
  result.waiting = static_cast<int64_t>(waiting_.size());
  result.fits_now = view.need <= machine.available && !Full();
  result.predicted_ttft = ToDuration(PredictFirstToken(view, chosen));
  result.link_price = pressure.link_price;
  result.compute_price = pressure.compute_price;
  result.memory_price = pressure.memory_price;
  const Tokens fresh = view.fresh();
  result.kappa = static_cast<double>((view.on_host + view.on_disk).value()) /
                 static_cast<double>(std::max<int64_t>(1, fresh.value()));
  result.kappa_critical = KappaCritical();
  return result;
}

}  // namespace sluice
