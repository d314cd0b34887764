#include "scheduler/policy/slack.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "scheduler/policy/pressure.h"
#include "scheduler/policy/selection.h"
#include "scheduler/policy/step_forming.h"
#include "scheduler/policy/tenant_shares.h"

namespace sluice {
namespace {

constexpr Seconds kShareHalfLife{60};
// The work ahead of a request on arrival may take this many times as long, because shorter work
// goes first, before the request is overdue.
constexpr double kDelay = 2;
// A request waits for a prefix that another one is computing if that saves this share of its work.
constexpr double kWorthJoining = 0.25;
// Nobody waits longer than this for a disk, whatever it promises.
constexpr Seconds kLongestStaging{10};
// Least prompt tokens per step beside decodes, so that no prefill starves behind the TPOT target.
constexpr int64_t kLeastChunk = 16;

class SlackPolicy final : public Policy {
 public:
  explicit SlackPolicy(const PolicyOptions& options)
      : options_(options), shares_(kShareHalfLife, options.tenant_weights) {}

  const char* name() const override { return "slack"; }
  PolicyTraits traits() const override {
    PolicyTraits traits;
    traits.chooses_plans = true;
    traits.revokes_loads = true;
    traits.prefetches = true;
    traits.values_blocks = true;
    return traits;
  }

  Verdict Pick(const MachineView& machine, std::span<const WaitingView> waiting) override;
  void FormStep(const MachineView& machine, std::span<const RunningView> running,
                std::vector<StepShare>* shares) override;
  int64_t LoadRank(const MachineView& machine, const WaitingView& admitted) const override;
  void OnAdmitted(const MachineView& machine, const WaitingView& request,
                  const Choice& choice) override;
  bool ServesBefore(const WaitingView& a, const WaitingView& b) const override {
    if (a.priority != b.priority) return a.priority > b.priority;
    return a.load + a.compute <= b.load + b.compute;
  }
  WaitPromise Promise(const MachineView& machine, const WaitingView& request,
                      std::span<const WaitingView> ahead) const override;

 private:
  // What the search for the next request has found so far.
  struct Search {
    double best = 0;  // gain of `choice`
    std::optional<Choice> choice;
    double best_misfit = 0;  // the same among those that do not fit
    std::optional<size_t> misfit;
    Decision pass = Decision::kWaitBlocks;
  };

  Choice ChoiceFor(const MachineView& machine, const Pressure& pressure, const WaitingView& request,
                   size_t index) const;
  void Consider(const MachineView& machine, const Pressure& pressure, const WaitingView& request,
                size_t index, Search* search) const;
  double Gain(const MachineView& machine, const WaitingView& request, const PlanPrice& price) const;
  bool MayQueue(const MachineView& machine, const PlanPrice& price, Decision* why) const;
  Tokens ChunkLimit(const MachineView& machine) const;

  const PolicyOptions options_;
  TenantShares shares_;
  Pressure pressure_;                             // as of the last Pick
  std::vector<std::pair<double, size_t>> order_;  // scratch of FormStep
  std::vector<size_t> indices_;
};

// The highest priority first; in it, those admitted before. Others wait for them.
struct Class {
  int32_t priority;
  bool resumed;
  friend auto operator<=>(const Class&, const Class&) = default;
};

Class ClassOf(const WaitingView& w) { return {w.priority, w.resumed}; }

bool WorthJoining(const MachineView& machine, const WaitingView& w) {
  if (w.pending == Tokens(0)) return false;
  const Tokens cached = w.tokens - w.fresh();
  return PrefillTime(*machine.cost, cached, w.pending) >= w.compute * kWorthJoining;
}

// Its KV is on the way from the disk and will be there sooner than it could be computed. (A disk
// slower than that is not waited for: dynamo #6101.) One that is late probably takes as long again
// as it is late: computing it all because a read takes a little longer than predicted would cost
// more than the rest of the read, and this way nobody loses more than computing takes.
bool WorthStaging(const MachineView& machine, const WaitingView& w) {
  const Seconds left = Backlog(machine, LinkDirection::kDiskToHost) + machine.staging_late;
  if (!w.staging || left <= Seconds(0)) return false;
  if (machine.now - w.arrived > kLongestStaging) return false;
  const Tokens cached = w.tokens - w.fresh() - w.on_disk;
  return left < PrefillTime(*machine.cost, cached, w.on_disk);
}

Verdict SlackPolicy::Pick(const MachineView& machine, std::span<const WaitingView> waiting) {
  PressureSum sum(machine);
  Class first = ClassOf(waiting.front());
  const WaitingView* overdue = nullptr;
  for (const WaitingView& w : waiting) {
    sum.Add(w);
    first = std::max(first, ClassOf(w));
    const bool late = machine.now >= w.overdue_at;
    if (late && (overdue == nullptr || w.priority > overdue->priority)) overdue = &w;
  }
  pressure_ = sum.Total();
  if (overdue != nullptr && overdue->priority == first.priority) {
    // In order of arrival, whether it fits or not.
    const auto index = static_cast<size_t>(overdue - waiting.data());
    Choice choice = ChoiceFor(machine, pressure_, *overdue, index);
    choice.overdue = true;
    return {choice, Decision::kWaitBlocks, std::nullopt};
  }
  Search search;
  for (size_t i = 0; i < waiting.size(); ++i) {
    if (ClassOf(waiting[i]) == first) Consider(machine, pressure_, waiting[i], i, &search);
  }
  if (search.choice.has_value()) return {search.choice, search.pass, std::nullopt};
  const bool may_preempt = machine.running > 0 && machine.lowest_priority < first.priority;
  if (search.misfit.has_value() && (may_preempt || first.resumed)) {
    return {ChoiceFor(machine, pressure_, waiting[*search.misfit], *search.misfit),
            Decision::kWaitBlocks, std::nullopt};
  }
  return {std::nullopt, search.pass, search.misfit};
}

Choice SlackPolicy::ChoiceFor(const MachineView& machine, const Pressure& pressure,
                              const WaitingView& request, size_t index) const {
  const PlanPrice price = CheapestPlan(machine, pressure, request);
  Choice choice;
  choice.index = index;
  choice.plan = price.plan;
  choice.recompute = price.recompute;
  return choice;
}

void SlackPolicy::Consider(const MachineView& machine, const Pressure& pressure,
                           const WaitingView& request, size_t index, Search* search) const {
  const bool idle = Idle(machine);
  if (WorthStaging(machine, request)) {
    if (!search->misfit.has_value()) search->pass = Decision::kWaitStaging;
    return;
  }
  if (!idle && WorthJoining(machine, request)) {
    if (!search->misfit.has_value()) search->pass = Decision::kWaitJoin;
    return;
  }
  const PlanPrice price = CheapestPlan(machine, pressure, request);
  const double gain = Gain(machine, request, price);
  const Blocks need = price.plan == RequestPlan::kInPlace ? request.need_in_place : request.need;
  if (need > machine.available || machine.running >= machine.max_running) {
    if (search->misfit.has_value() && gain <= search->best_misfit) return;
    search->best_misfit = gain;
    search->misfit = index;
    search->pass = Decision::kWaitBlocks;
    return;
  }
  if (!idle && !MayQueue(machine, price, &search->pass)) return;
  if (search->choice.has_value() && gain <= search->best) return;
  search->best = gain;
  search->choice = Choice{index, price.plan, price.recompute, false};
}

// Least work first, aged: a request that has waited `patience` counts as half the work.
double SlackPolicy::Gain(const MachineView& machine, const WaitingView& request,
                         const PlanPrice& price) const {
  const double age = 1 + std::max(0.0, Waited(machine, request) / options_.patience);
  const double work = price.price.value() + machine.cost->launch.value() + 1e-9;
  return age * shares_.Credit(request.tenant) / work;
}

// A resource with enough work queued takes no more: what goes first there is decided as late as
// possible. A request that mainly needs the other resource is let in, and so is one so small that
// it overtakes what is queued: steps take short prefills first, links short loads (LoadRank).
bool SlackPolicy::MayQueue(const MachineView& machine, const PlanPrice& price,
                           Decision* why) const {
  const Seconds ahead = options_.lookahead;
  const Seconds small = ahead / 2;
  const bool link_full = Backlog(machine, LinkDirection::kHostToDevice) > ahead;
  const bool compute_full = machine.compute_backlog > ahead;
  const bool link_heavy = price.link > price.compute;
  if (link_full && price.link > small && (compute_full || link_heavy)) {
    *why = Decision::kWaitLink;
    return false;
  }
  if (compute_full && price.compute > small && (link_full || !link_heavy)) {
    *why = Decision::kWaitCompute;
    return false;
  }
  return true;
}

// Shortest load first. Loads are short against `patience`; the link promotes those that wait long.
int64_t SlackPolicy::LoadRank(const MachineView& /*machine*/, const WaitingView& admitted) const {
  return static_cast<int64_t>(admitted.load.value() * 1e6);
}

void SlackPolicy::OnAdmitted(const MachineView& machine, const WaitingView& request,
                             const Choice& choice) {
  const PlanPrice price = PriceOf(choice.plan, machine, pressure_, request);
  const bool priced = price.ready < kNever;
  shares_.Charge(request.tenant, machine.now, priced ? price.compute : request.compute,
                 priced ? price.link : request.load,
                 static_cast<double>(request.need.value()) * request.hold.value());
}

// What waits ahead takes as long as admissions took of late, or its scarcest resource's time;
// kDelay times that leaves room for shorter work to go first. A worst case serves it one after the
// other, each with all its outputs in the longest steps.
WaitPromise SlackPolicy::Promise(const MachineView& machine, const WaitingView& request,
                                 std::span<const WaitingView> ahead) const {
  const Seconds served = machine.admission_interval * static_cast<double>(ahead.size());
  const Seconds before = kDelay * std::max(served, PressureOf(machine, ahead).most());
  Seconds serial = machine.drain;
  const auto serve = [&](const WaitingView& w) {
    serial += w.load + w.compute + w.recompute +
              machine.longest_step * (static_cast<double>(w.max_new.value()) + 1);
  };
  for (const WaitingView& w : ahead) serve(w);
  serve(request);
  const Seconds due = options_.patience + before;
  return {request.arrived + due, due + serial};
}

// Prompt tokens a step may have beside its decodes: as many as keep it within the TPOT target, but
// at least what is free because weights are read anyway.
Tokens SlackPolicy::ChunkLimit(const MachineView& machine) const {
  if (machine.decoding == 0) return machine.step_token_limit;
  const CostCoefficients& cost = *machine.cost;
  const Seconds left = machine.tpot_target - machine.decode_step;
  const Seconds free = std::max(cost.floor, cost.weight_read);
  const double chunk = std::max(left, free) / cost.per_token;
  const double most = static_cast<double>(machine.step_token_limit.value());
  return Tokens(std::max(kLeastChunk, static_cast<int64_t>(std::min(chunk, most))));
}

void SlackPolicy::FormStep(const MachineView& machine, std::span<const RunningView> running,
                           std::vector<StepShare>* shares) {
  StepFormer step(running, machine.step_token_limit, shares);
  step.AddDecodes();
  step.Limit(ChunkLimit(machine));
  // Shortest remaining prefill first, aged as in Gain().
  order_.clear();
  for (size_t i = 0; i < running.size(); ++i) {
    const RunningView& r = running[i];
    if (IsDecode(r) || ReadyTokens(r) == Tokens(0)) continue;
    const double age = 1 + (machine.now - r.arrived) / options_.patience;
    const Seconds left = PrefillTime(*machine.cost, r.first, r.remaining);
    order_.emplace_back(left.value() / std::max(age, 1e-9), i);
  }
  std::sort(order_.begin(), order_.end());
  indices_.clear();
  for (const auto& [left, index] : order_) indices_.push_back(index);
  step.AddPrefills(indices_);
  if (step.empty()) step.JoinOldest();
}

}  // namespace

std::unique_ptr<Policy> MakeSlackPolicy(const PolicyOptions& options) {
  return std::make_unique<SlackPolicy>(options);
}

}  // namespace sluice
