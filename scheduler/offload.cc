// What keeps the host tier from doing harm: stores are paced to what the link can drain soon, and
// stop where they do not pay.
#include <algorithm>

#include "scheduler/impl.h"

namespace sluice {
namespace {

// Blocks being stored cannot be evicted, so no more are under way than the link drains in this
// time.
constexpr Seconds kStoreWindow{0.5};

}  // namespace

void Scheduler::Impl::SteerStores() {
  if (options_.host_blocks == Blocks(0)) return;
  const LinkCoefficients& link = cost_.links[static_cast<size_t>(LinkDirection::kDeviceToHost)];
  const Seconds each = CopyTime(link, options_.geometry.bytes_per_block, 1) - link.latency;
  const double window = each > Seconds(0) ? std::min(1e9, kStoreWindow / each) : 1e9;
  const Blocks paced(1 + static_cast<int64_t>(window));
  kv_.set_max_store_blocks(std::min(options_.max_store_blocks, paced));
  if (!traits_.chooses_plans) return;
  kv_.set_min_hits_to_store(guard_.Stores(now()) ? options_.min_hits_to_store : kNeverStore);
}

void Scheduler::Impl::AccountUse(const MachineView& machine, const WaitingView& view,
                                 const Choice& choice) {
  if (!traits_.chooses_plans || view.on_host == Tokens(0)) return;
  if (choice.plan == RequestPlan::kRecompute) return;
  const Pressure pressure = PressureOf(machine, waiting_.views());
  const PlanPrice again = PriceOf(RequestPlan::kRecompute, machine, pressure, view);
  const PlanPrice chosen = PriceOf(choice.plan, machine, pressure, view);
  const bool priced = again.ready < kNever && chosen.ready < kNever;
  if (priced) guard_.OnUse(now(), again.price - chosen.price);
}

void Scheduler::Impl::AccountStore(const CopyUnderWay& copy, const CopyResult& result) {
  // With nobody waiting, neither the link nor the blocks held are missed.
  if (!traits_.chooses_plans || waiting_.empty()) return;
  if (copy.direction != LinkDirection::kDeviceToHost) return;
  const Pressure pressure = PressureOf(LookAtMachine(), waiting_.views());
  const Seconds took = ToSeconds(result.finished - result.started);
  const double blocks = static_cast<double>(copy.bytes.value()) /
                        static_cast<double>(options_.geometry.bytes_per_block.value());
  const double held = blocks / AsDouble(options_.device_blocks);
  guard_.OnStore(now(), took * (pressure.link_price + held * pressure.memory_price));
}

}  // namespace sluice
