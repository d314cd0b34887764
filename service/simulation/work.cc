#include "service/simulation/work.h"

#include <algorithm>

namespace sluice {
namespace {

const LinkCoefficients& Link(const CostCoefficients& cost, LinkDirection direction) {
  return cost.links[static_cast<size_t>(direction)];
}

Bytes BytesOf(const CostCoefficients& cost, Tokens tokens) {
  return Bytes(tokens.value() * cost.kv_bytes_per_token.value());
}

Seconds MoveTime(const CostCoefficients& cost, LinkDirection direction, Tokens tokens) {
  if (tokens <= Tokens(0)) return Seconds(0);
  return CopyTime(Link(cost, direction), BytesOf(cost, tokens), 1);
}

// Attention of one prompt and its answer. Decode grows linearly with the context, so the middle
// token stands for all.
Seconds AttentionOf(const CostCoefficients& cost, const WorkItem& item) {
  const Seconds prefill = AttentionTime(cost, {item.cached(), item.fresh, Tokens(0)});
  const Tokens steps = item.output - Tokens(1);
  const Tokens middle = item.cached() + item.fresh + Tokens(steps.value() / 2);
  return prefill + AttentionTime(cost, {middle, Tokens(1), Tokens(0)}) * AsDouble(steps);
}

}  // namespace

Seconds Work::bottleneck() const { return std::max({link, compute, disk}); }

Seconds Work::Bound() const {
  if (link <= compute) return compute;
  // link (1 - f) = compute + f recompute
  const double share = (link - compute) / (link + recompute);
  return compute + recompute * share;
}

Work WorkOf(const CostCoefficients& cost, const WorkLimits& limits,
            const std::vector<WorkItem>& items) {
  Work work;
  Seconds attention;
  double tokens = 0;
  double decoded = 0;
  double held = 0;  // token-steps of device memory
  for (const WorkItem& item : items) {
    const double steps = AsDouble(item.output - Tokens(1));
    work.link += MoveTime(cost, LinkDirection::kHostToDevice, item.on_host + item.on_disk);
    work.disk += MoveTime(cost, LinkDirection::kDiskToHost, item.on_disk);
    work.write_back += MoveTime(cost, LinkDirection::kDeviceToHost, item.fresh);
    attention += AttentionOf(cost, item);
    work.recompute += PrefillTime(cost, item.on_device, item.on_host + item.on_disk + item.fresh) -
                      PrefillTime(cost, item.cached(), item.fresh);
    tokens += AsDouble(item.fresh) + steps;
    decoded += steps;
    held += AsDouble(item.held) * steps;
  }
  double steps = std::max(tokens / AsDouble(limits.step_tokens),
                          decoded / static_cast<double>(limits.max_running));
  if (limits.device_tokens > Tokens(0)) {
    steps = std::max(steps, held / AsDouble(limits.device_tokens));
  }
  const Seconds linear = std::max(cost.weight_read * steps, cost.per_token * tokens);
  work.compute = cost.launch * steps + std::max(cost.floor * steps, linear + attention);
  return work;
}

Seconds AloneTtft(const CostCoefficients& cost, Tokens step_tokens, const WorkItem& item) {
  const Seconds compute = PrefillTimeAlone(cost, item.cached(), item.fresh, step_tokens);
  const Tokens moved = item.on_host + item.on_disk;
  if (moved == Tokens(0)) return compute;
  const Seconds load = std::max(MoveTime(cost, LinkDirection::kHostToDevice, moved),
                                MoveTime(cost, LinkDirection::kDiskToHost, item.on_disk));
  const double layers = cost.layers;
  return std::max(load + compute / layers, load / layers + compute);
}

}  // namespace sluice
