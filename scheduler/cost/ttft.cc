// One request on an idle machine: load, prefill, and time to first token by plan.
#include <algorithm>
#include <cmath>
#include <limits>

#include "scheduler/cost/cost_model.h"

namespace sluice {
namespace {

// A split that gains less than 5 % gains less than the rates are known to.
constexpr double kSplitMustGain = 1.05;
constexpr Seconds kNever{std::numeric_limits<double>::infinity()};

// As one run: on an idle machine with a large prefix, bytes outweigh descriptors by far.
Seconds Load(const CostCoefficients& cost, const Deployment& d, Tokens cached) {
  if (cached == Tokens(0)) return Seconds(0);
  return CopyTime(cost.links[static_cast<size_t>(LinkDirection::kHostToDevice)],
                  KvBytes(d.model, d.kv_offload, cached), 1);
}

Seconds Alone(const CostCoefficients& cost, Tokens first, Tokens count) {
  return PrefillTimeAlone(cost, first, count, kPrefillChunk);
}

// A prefill whose first `cached` tokens stay in host memory.
Seconds InPlace(const CostCoefficients& cost, const RequestShape& r) {
  if (!cost.attends_in_place()) return kNever;
  Seconds sum;
  for (Tokens at; at < r.fresh; at += kPrefillChunk) {
    StepEstimate step(cost);
    step.Add({r.cached + at, std::min(kPrefillChunk, r.fresh - at), r.cached});
    sum += step.time();
  }
  return sum;
}

// The split plan with its first `front` cached tokens computed; see TtftByPlan::split.
struct SplitPoint {
  Seconds compute;  // R + P
  Seconds link;     // max(L' + P / n, L' / n + P)
  Seconds time() const { return std::max(compute, link); }
};

class Splitter {
 public:
  Splitter(const CostCoefficients& cost, const Deployment& d, const RequestShape& r)
      : cost_(cost), d_(d), cached_(r.cached), fresh_(Alone(cost, r.cached, r.fresh)) {}

  SplitPoint At(Tokens front) const {
    const double n = cost_.layers;
    const Seconds load = Load(cost_, d_, cached_ - front);
    return {Alone(cost_, Tokens(0), front) + fresh_,
            std::max(load + fresh_ / n, load / n + fresh_)};
  }

  // Compute grows with the front and the link's part shrinks: the best front is where they cross,
  // on either side of it, or none at all.
  Tokens Best() const {
    Tokens low;             // compute <= link here, or low is 0
    Tokens high = cached_;  // compute > link here, or high is `cached_`
    while (high - low > Tokens(1)) {
      const Tokens middle(low.value() + (high - low).value() / 2);
      const SplitPoint at = At(middle);
      (at.compute <= at.link ? low : high) = middle;
    }
    Tokens best;
    for (const Tokens front : {low, high}) {
      if (At(front).time() < At(best).time()) best = front;
    }
    return best;
  }

 private:
  const CostCoefficients& cost_;
  const Deployment& d_;
  const Tokens cached_;
  const Seconds fresh_;
};

}  // namespace

Seconds LoadTime(const Deployment& d, Tokens cached) {
  return Load(MakeCoefficients(d), d, cached);
}

Seconds PrefillTime(const Deployment& d, const RequestShape& r) {
  return Alone(MakeCoefficients(d), r.cached, r.fresh);
}

double OverheadRatio(const Deployment& d, const RequestShape& r) {
  return LoadTime(d, r.cached) / PrefillTime(d, r);
}

double TransferShare(const Deployment& d, const RequestShape& r) {
  const Seconds load = LoadTime(d, r.cached);
  return load / (load + PrefillTime(d, r));
}

TtftByPlan Ttft(const Deployment& d, const RequestShape& r) {
  const CostCoefficients cost = MakeCoefficients(d);
  const double n = cost.layers;
  const Seconds load = Load(cost, d, r.cached);
  TtftByPlan ttft;
  ttft.resident = Alone(cost, r.cached, r.fresh);
  ttft.serial = load + ttft.resident;
  ttft.overlapped = std::max(load, ttft.resident) + std::min(load, ttft.resident) / n;
  ttft.recompute = Alone(cost, Tokens(0), r.cached + r.fresh);
  ttft.in_place = InPlace(cost, r);

  const Splitter splitter(cost, d, r);
  const Tokens front = splitter.Best();
  ttft.split = std::min(splitter.At(front).time(), ttft.overlapped);
  if (r.cached > Tokens(0)) ttft.split_share = AsDouble(front) / AsDouble(r.cached);
  if (ttft.recompute < ttft.split) {
    ttft.split = ttft.recompute;
    ttft.split_share = 1;
  }
  return ttft;
}

RequestPlan BestPlan(const TtftByPlan& ttft) {
  // Loading takes some time unless there is nothing to load.
  if (ttft.overlapped <= ttft.resident) return RequestPlan::kResident;
  // On a tie the first, simpler one wins.
  const std::pair<Seconds, RequestPlan> plans[] = {
      {ttft.overlapped, RequestPlan::kLoad},
      {ttft.recompute, RequestPlan::kRecompute},
      {ttft.split * kSplitMustGain, RequestPlan::kSplit},
      {ttft.in_place, RequestPlan::kInPlace}};
  return std::min_element(std::begin(plans), std::end(plans),
                          [](const auto& a, const auto& b) { return a.first < b.first; })
      ->second;
}

Tokens HidingTokens(const Deployment& d) {
  const double full_layers = static_cast<double>(d.model.layers - d.model.windowed_layers);
  if (full_layers == 0) return Tokens(0);
  const double load = KvBytesPerToken(d.model, d.kv_offload) / EffectiveLinkRate(d).value();
  const Seconds pair = AttentionFlopPerPair(d.model) * full_layers / AttentionFlopRate(d);
  return Tokens(static_cast<int64_t>(std::ceil(load / pair.value())));
}

std::optional<Tokens> BreakEvenCached(const Deployment& d, const StorageRate& storage) {
  if (!storage.exists()) return std::nullopt;
  const CostCoefficients cost = MakeCoefficients(d);
  const double rate = std::min(storage.read.value(), EffectiveLinkRate(d).value());
  const auto pays = [&](Tokens cached) {
    const auto bytes = static_cast<double>(KvBytes(d.model, d.kv_offload, cached).value());
    return storage.latency + Seconds(bytes / rate) < PrefillTime(cost, Tokens(0), cached);
  };
  // Computing grows at least as fast as reading once it has caught up: there is one crossing.
  Tokens low(0);
  Tokens high(d.model.max_context);
  if (!pays(high)) return std::nullopt;
  while (high - low > Tokens(1)) {
    const Tokens middle(low.value() + (high - low).value() / 2);
    (pays(middle) ? high : low) = middle;
  }
  return high;
}

ByteRate BreakEvenLink(const Deployment& d, const RequestShape& r) {
  const Bytes bytes = KvBytes(d.model, d.kv_offload, r.cached);
  return ByteRate(static_cast<double>(bytes.value()) / PrefillTime(d, r).value());
}

}  // namespace sluice
