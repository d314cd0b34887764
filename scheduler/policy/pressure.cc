#include "scheduler/policy/pressure.h"

#include <algorithm>

#include "scheduler/policy/selection.h"

namespace sluice {
namespace {

// A resource nobody waits for still costs a little, so that ties go to less work.
constexpr double kLeastPrice = 0.05;
// Splits that move less than this share of a load are not worth their extra steps.
constexpr double kLeastSplit = 0.05;

double PriceIn(Seconds resource, Seconds most) {
  return most > Seconds(0) ? std::max(kLeastPrice, resource / most) : 1.0;
}

// Steps are shared with decodes: they slow compute down by their share of each step.
Seconds Slowed(const MachineView& machine, Seconds compute) {
  const Seconds step = machine.cost->per_token * AsDouble(machine.step_token_limit);
  return compute * (1 + (step > Seconds(0) ? std::min(1.0, machine.decode_step / step) : 0));
}

}  // namespace

PressureSum::PressureSum(const MachineView& machine)
    : blocks_(std::max(1.0, AsDouble(machine.capacity))) {
  sum_.link = Backlog(machine, LinkDirection::kHostToDevice);
  sum_.compute = machine.compute_backlog + machine.decode_backlog;
  block_seconds_ = machine.held_block_seconds;
}

Pressure PressureSum::Total() const {
  Pressure p = sum_;
  p.memory = Seconds(block_seconds_ / blocks_);
  const Seconds most = p.most();
  p.link_price = PriceIn(p.link, most);
  p.compute_price = PriceIn(p.compute, most);
  p.memory_price = PriceIn(p.memory, most);
  if (p.link == most && p.link + p.recompute > Seconds(0)) {
    p.balancing_share = std::clamp((p.link - p.compute) / (p.link + p.recompute), 0.0, 1.0);
  }
  return p;
}

Pressure PressureOf(const MachineView& machine, std::span<const WaitingView> waiting) {
  PressureSum sum(machine);
  for (const WaitingView& w : waiting) sum.Add(w);
  return sum.Total();
}

PlanPrice PriceOf(RequestPlan plan, const MachineView& machine, const Pressure& pressure,
                  const WaitingView& w) {
  const CostCoefficients& cost = *machine.cost;
  PlanPrice p;
  p.plan = plan;
  p.link = w.load;
  p.compute = w.compute;
  double memory = AsDouble(w.need) * w.hold.value();
  bool possible = true;
  switch (plan) {
    case RequestPlan::kResident:
      possible = w.on_host == Tokens(0);
      break;
    case RequestPlan::kLoad:
      possible = w.on_host > Tokens(0);
      break;
    case RequestPlan::kSplit: {
      const double share = pressure.balancing_share;
      p.recompute = Tokens(static_cast<int64_t>(share * AsDouble(w.on_host)));
      p.link = w.load * (1 - share);
      p.compute += PrefillTime(cost, w.on_device, p.recompute);
      possible = share >= kLeastSplit && p.recompute > Tokens(0);
      break;
    }
    case RequestPlan::kInPlace: {
      p.link = Seconds(0);
      p.compute += InPlaceTime(cost, w.on_host, w.fresh(), AsDouble(w.max_new) / 2);
      memory = AsDouble(w.need_in_place) * w.hold.value();
      possible = machine.attends_in_place && w.on_host > Tokens(0) && cost.attends_in_place();
      break;
    }
    case RequestPlan::kRecompute:
      p.link = Seconds(0);
      p.compute += w.recompute;
      memory += AsDouble(w.need) * (w.recompute - w.load).value();
      possible = w.on_host > Tokens(0);
      break;
  }
  const Seconds arrived =
      p.link > Seconds(0) ? Backlog(machine, LinkDirection::kHostToDevice) + p.link : Seconds(0);
  const Seconds computed = machine.compute_backlog + Slowed(machine, p.compute) + cost.launch;
  // Layer by layer: one layer's worth of compute is left when the last layer's load has arrived.
  p.ready = possible ? std::max(arrived + w.compute / cost.layers, computed) : kNever;
  p.price = !possible ? kNever
                      : p.link * pressure.link_price + p.compute * pressure.compute_price +
                            Seconds(memory / std::max(1.0, AsDouble(machine.capacity))) *
                                pressure.memory_price;
  return p;
}

namespace {

// What a plan makes everybody wait: its own request until it is ready, those who wait or will come
// for the work it adds. To a machine with nothing else to do fewer come; not none, or ready times
// that are off by a little decide (0, 0.1, 0.3 and 1 simulated near break-even: 0.3 loses nothing
// against a machine without a host tier).
Seconds DelayOf(const PlanPrice& plan, const MachineView& machine, const Pressure& pressure) {
  constexpr double kWillCome = 2;
  constexpr double kWillComeWhenIdle = 0.3;
  const bool alone = pressure.waiting <= 1 && Idle(machine);
  const double others =
      alone ? kWillComeWhenIdle : kWillCome + static_cast<double>(pressure.waiting);
  return plan.ready + plan.price * others;
}

}  // namespace

PlanPrice CheapestPlan(const MachineView& machine, const Pressure& pressure, const WaitingView& w) {
  if (w.on_host == Tokens(0)) return PriceOf(RequestPlan::kResident, machine, pressure, w);
  PlanPrice best = PriceOf(RequestPlan::kLoad, machine, pressure, w);
  const auto consider = [&](RequestPlan plan) {
    const PlanPrice other = PriceOf(plan, machine, pressure, w);
    if (DelayOf(other, machine, pressure) < DelayOf(best, machine, pressure)) best = other;
  };
  if (pressure.balancing_share >= kLeastSplit) consider(RequestPlan::kSplit);
  if (machine.attends_in_place) consider(RequestPlan::kInPlace);
  consider(RequestPlan::kRecompute);
  return best;
}

}  // namespace sluice
