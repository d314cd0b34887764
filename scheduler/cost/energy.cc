// What a request costs in energy.
#include "scheduler/cost/cost_model.h"

namespace sluice {

Energy RequestEnergy(const Deployment& d, const RequestShape& r, bool overlapped) {
  const CostCoefficients cost = MakeCoefficients(d);
  const TtftByPlan ttft = Ttft(d, r);
  const auto outputs = static_cast<double>(r.output.value());
  // Decode steps at the mean context.
  const Tokens context = r.cached + r.fresh + Tokens(r.output.value() / 2);
  const Seconds decode = DecodeStepTime(d, 1, context) * outputs;
  const Seconds busy = ttft.resident + decode;
  const Seconds wall = (overlapped ? ttft.overlapped : ttft.serial) + decode;
  const Watts above_idle = cost.compute_power - cost.idle_power;

  Energy energy;
  energy.total =
      cost.idle_power * wall + above_idle * busy + cost.transfer_power * LoadTime(d, r.cached);
  energy.mean = Watts(energy.total.value() / wall.value());
  energy.tdp_share = energy.mean / (d.hardware.tdp * static_cast<double>(d.tensor_parallel));
  return energy;
}

}  // namespace sluice
