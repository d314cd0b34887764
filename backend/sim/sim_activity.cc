#include "backend/sim/sim_activity.h"

#include <algorithm>

#include "scheduler/base/check.h"

namespace sluice {

void SimActivity::AdvanceTo(absl::Time now) {
  SLUICE_CHECK(now >= last_);
  const absl::Duration passed = now - last_;
  if (passed == absl::ZeroDuration()) return;
  last_ = now;
  if (awaited_ > 0 && !in_step_) exposed_ += passed;
  bool transfer = false;
  for (size_t d = 0; d < kLinkDirectionCount; ++d) {
    if (moving_[d] == 0) continue;
    transfer = true;
    total_.links[d].busy += passed;
  }
  (in_step_ ? (transfer ? total_.both : total_.compute_only)
            : (transfer ? total_.transfer_only : total_.idle)) += passed;
}

void SimActivity::BeginStep() {
  before_step_ = total_;
  in_step_ = true;
}

void SimActivity::EndStep(absl::Duration stall) {
  in_step_ = false;
  total_.load_stall += stall;
  exposed_ += stall;
  // Whole as long as a load that is waited for counts as under way, which it does once it or
  // another one has begun.
  const absl::Duration moved = std::min(stall, total_.both - before_step_.both);
  total_.both -= moved;
  total_.transfer_only += moved;
  total_.compute_only -= stall - moved;
  total_.idle += stall - moved;
}

void SimActivity::QueueTransfer(LinkDirection direction, Bytes bytes) {
  total_.links[static_cast<size_t>(direction)].in_flight += bytes;
}

void SimActivity::BeginTransfer(LinkDirection direction, bool awaited) {
  ++moving_[static_cast<size_t>(direction)];
  if (awaited) ++awaited_;
}

void SimActivity::EndTransfer(LinkDirection direction, bool awaited, Bytes bytes, bool begun,
                              bool ok) {
  const auto d = static_cast<size_t>(direction);
  if (begun) {
    SLUICE_CHECK(moving_[d] > 0);
    --moving_[d];
    if (awaited) --awaited_;
  }
  total_.links[d].in_flight -= bytes;
  if (!ok) return;
  total_.links[d].moved += bytes;
  ++total_.links[d].operations;
}

Joules EnergyOf(const CostCoefficients& cost, const ActivitySnapshot& activity) {
  const Seconds computing = ToSeconds(activity.compute_only + activity.both);
  const Seconds moving = ToSeconds(activity.transfer_only + activity.both);
  const Seconds rest = ToSeconds(activity.wall()) - computing;
  return cost.compute_power * computing + cost.idle_power * rest + cost.transfer_power * moving;
}

}  // namespace sluice
