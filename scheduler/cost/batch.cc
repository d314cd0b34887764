// Many requests at once: decode steps, and what device memory allows.
#include <algorithm>

#include "scheduler/base/check.h"
#include "scheduler/cost/cost_model.h"

namespace sluice {

Seconds DecodeStepTime(const Deployment& d, int64_t batch, Tokens context) {
  const CostCoefficients cost = MakeCoefficients(d);
  const auto sequences = static_cast<double>(batch);
  const Seconds attention = AttentionTime(cost, {context, Tokens(1), Tokens(0)}) * sequences;
  const Seconds linear = std::max(cost.weight_read, cost.per_token * sequences);
  return cost.launch + std::max(cost.floor, linear + attention);
}

Bytes KvCapacity(const Deployment& d) {
  const double usable = static_cast<double>(d.hardware.memory.value()) *
                        static_cast<double>(d.tensor_parallel) * d.memory_share;
  const Bytes left = Bytes(static_cast<int64_t>(usable)) - WeightBytes(d.model, d.weights);
  return std::max(left, Bytes(0));
}

int64_t LargestBatch(const Deployment& d, Tokens context) {
  SLUICE_CHECK(context > Tokens(0));
  return KvCapacity(d).value() / KvBytes(d.model, d.kv, context).value();
}

IterationTokens TokensPerIteration(const Deployment& d, const RequestShape& r, Tokens budget) {
  const Bytes each = KvBytes(d.model, d.kv, r.cached + r.fresh + r.output);
  const auto fresh = static_cast<double>(r.fresh.value());
  const auto limit = static_cast<double>(budget.value());
  const double fit = static_cast<double>(KvCapacity(d).value()) / static_cast<double>(each.value());
  IterationTokens out;
  out.requests = std::min(fit, limit / fresh);
  out.tokens = out.requests * fresh;
  out.budget_share = out.tokens / limit;
  return out;
}

}  // namespace sluice
