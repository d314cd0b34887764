#include "service/cli/plan_analysis.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "scheduler/base/check.h"
#include "service/cli/plan_requests.h"
#include "service/report/percentiles.h"

namespace sluice {
namespace {

struct KindName {
  const char* key;
  const char* text;
};
constexpr std::array<KindName, kTtftKindCount> kNames = {{{"resident", "already resident"},
                                                          {"serial", "load, then compute"},
                                                          {"overlapped", "overlapped load"},
                                                          {"split", "split"},
                                                          {"in_place", "attend in place"},
                                                          {"recompute", "recompute"},
                                                          {"best", "best for each request"}}};

size_t Index(TtftKind kind) { return static_cast<size_t>(kind); }
double Kappa(const RequestShape& r) { return AsDouble(r.cached) / AsDouble(r.fresh); }

Percentiles PercentilesOf(Samples samples) {
  return {samples.Percentile(10), samples.Percentile(50), samples.Percentile(90)};
}

// The part of each plan's time that the device (or the host, in place) computes.
std::array<Seconds, kTtftKindCount> ComputeParts(const Deployment& d, const RequestShape& r,
                                                 const TtftByPlan& ttft, TtftKind best) {
  const Tokens front(std::llround(ttft.split_share * AsDouble(r.cached)));
  Seconds split = ttft.resident;
  if (front == r.cached) {
    split = ttft.recompute;
  } else if (front > Tokens(0)) {
    split += PrefillTime(d, {Tokens(0), front, Tokens(0)});
  }
  std::array<Seconds, kTtftKindCount> parts{};
  parts[Index(TtftKind::kResident)] = ttft.resident;
  parts[Index(TtftKind::kSerial)] = ttft.resident;
  parts[Index(TtftKind::kOverlapped)] = ttft.resident;
  parts[Index(TtftKind::kSplit)] = std::min(split, ttft.split);
  parts[Index(TtftKind::kInPlace)] = ttft.in_place;
  parts[Index(TtftKind::kRecompute)] = ttft.recompute;
  parts[Index(TtftKind::kBest)] = parts[Index(best)];
  return parts;
}

// Sums over the requests; Finish() turns them into means.
class Totals {
 public:
  Totals(const Deployment& d, PlanAnalysis& result) : d_(d), result_(result) {}

  void Add(const RequestShape& r) {
    const TtftByPlan ttft = Ttft(d_, r);
    const TtftKind best = KindOf(BestPlan(ttft));
    const auto parts = ComputeParts(d_, r, ttft, best);
    for (int i = 0; i < kTtftKindCount; ++i) {
      const auto kind = static_cast<TtftKind>(i);
      result_.ttft[Index(kind)] += TtftOf(ttft, kind == TtftKind::kBest ? best : kind);
      result_.compute[Index(kind)] += parts[Index(kind)];
    }
    ++result_.best_share[Index(best)];
    const Seconds load = LoadTime(d_, r.cached);
    result_.load += load;
    result_.prefill += ttft.resident;
    if (load > ttft.resident) ++result_.link_bound_by_slack;
    if (Kappa(r) > result_.kappa_crit) ++result_.link_bound_by_kappa;
    if (r.cached == Tokens(0)) ++result_.cold_share;
    AddEnergy(RequestEnergy(d_, {r.cached, r.fresh, Tokens(0)}, true), result_.energy);
    AddEnergy(RequestEnergy(d_, {Tokens(0), r.cached + r.fresh, Tokens(0)}, true),
              result_.energy_recompute);
    kappa_.Add(Kappa(r));
    cached_.Add(AsDouble(r.cached));
    fresh_.Add(AsDouble(r.fresh));
  }

  void Finish() {
    const auto count = static_cast<double>(kappa_.count());
    result_.transfer_share = result_.load / (result_.load + result_.prefill);
    for (Seconds& time : result_.ttft) time = time / count;
    for (Seconds& time : result_.compute) time = time / count;
    for (double& share : result_.best_share) share /= count;
    result_.load = result_.load / count;
    result_.prefill = result_.prefill / count;
    result_.link_bound_by_slack /= count;
    result_.link_bound_by_kappa /= count;
    result_.cold_share /= count;
    FinishEnergy(count, result_.energy);
    FinishEnergy(count, result_.energy_recompute);
    result_.kappa = PercentilesOf(kappa_);
    result_.cached = PercentilesOf(cached_);
    result_.fresh = PercentilesOf(fresh_);
  }

 private:
  // The mean power is the energy of all over the time of all; `total` holds the first sum, and the
  // time is what energy and power of each request say.
  void AddEnergy(const Energy& one, Energy& sum) {
    sum.total += one.total;
    busy_[&sum == &result_.energy ? 0 : 1] += one.total.value() / one.mean.value();
  }
  void FinishEnergy(double count, Energy& sum) {
    const double seconds = busy_[&sum == &result_.energy ? 0 : 1];
    sum.mean = Watts(sum.total.value() / seconds);
    sum.tdp_share = sum.mean / (d_.hardware.tdp * static_cast<double>(d_.tensor_parallel));
    sum.total = sum.total / count;
  }

  const Deployment& d_;
  PlanAnalysis& result_;
  Samples kappa_, cached_, fresh_;
  std::array<double, 2> busy_{};  // seconds of all requests, by energy
};

// The means as if they were those of one request.
TtftByPlan MeanOf(const PlanAnalysis& a) {
  TtftByPlan mean;
  mean.resident = a.ttft[Index(TtftKind::kResident)];
  mean.overlapped = a.ttft[Index(TtftKind::kOverlapped)];
  mean.split = a.ttft[Index(TtftKind::kSplit)];
  mean.in_place = a.ttft[Index(TtftKind::kInPlace)];
  mean.recompute = a.ttft[Index(TtftKind::kRecompute)];
  return mean;
}

void AnalyzeTypical(const Deployment& d, PlanAnalysis& result) {
  const RequestShape& r = result.typical;
  const Tokens context = r.cached + r.fresh + r.output;
  result.kappa_crit_typical = KappaCriticalAt(d, r.fresh);
  result.prefill_flop_per_token_typical = PrefillFlopPerToken(d.model, r.cached, r.fresh);
  result.batch = LargestBatch(d, context);
  result.iteration = TokensPerIteration(d, r, kPlanTokenBudget);
  result.decode_step = DecodeStepTime(d, std::max<int64_t>(1, result.batch), context);
  result.break_even_link = BreakEvenLink(d, r);
  result.break_even_disk = BreakEvenCached(d, d.hardware.disk);
  result.break_even_remote = BreakEvenCached(d, d.hardware.remote);
}

}  // namespace

const char* TtftKindKey(TtftKind kind) { return kNames[Index(kind)].key; }
const char* TtftKindText(TtftKind kind) { return kNames[Index(kind)].text; }

TtftKind KindOf(RequestPlan plan) {
  switch (plan) {
    case RequestPlan::kResident:
      return TtftKind::kResident;
    case RequestPlan::kLoad:
      return TtftKind::kOverlapped;
    case RequestPlan::kSplit:
      return TtftKind::kSplit;
    case RequestPlan::kInPlace:
      return TtftKind::kInPlace;
    case RequestPlan::kRecompute:
      break;
  }
  return TtftKind::kRecompute;
}

Seconds TtftOf(const TtftByPlan& ttft, TtftKind kind) {
  switch (kind) {
    case TtftKind::kResident:
      return ttft.resident;
    case TtftKind::kSerial:
      return ttft.serial;
    case TtftKind::kOverlapped:
      return ttft.overlapped;
    case TtftKind::kSplit:
      return ttft.split;
    case TtftKind::kInPlace:
      return ttft.in_place;
    case TtftKind::kRecompute:
      return ttft.recompute;
    case TtftKind::kBest:
      break;
  }
  return TtftOf(ttft, KindOf(BestPlan(ttft)));
}

PlanAnalysis Analyze(const Deployment& d, const std::vector<RequestShape>& shapes) {
  SLUICE_CHECK(!shapes.empty());
  PlanAnalysis result;
  result.kappa_model = KappaModel(d.model, d.kv_offload);
  result.kappa_hardware = KappaHardware(d);
  result.kappa_crit = KappaCritical(d);
  result.kv_bytes_per_token = KvBytesPerToken(d.model, d.kv_offload);
  result.prefill_flop_per_token = LinearFlopPerToken(d.model);
  result.hiding_tokens = HidingTokens(d);
  result.kv_capacity = KvCapacity(d);
  Totals totals(d, result);
  for (const RequestShape& shape : shapes) totals.Add(shape);
  totals.Finish();
  result.best_plan = KindOf(BestPlan(MeanOf(result)));
  result.typical = TypicalRequest(shapes);
  AnalyzeTypical(d, result);
  return result;
}

PlanRegions MapRegions(const Deployment& d, const std::vector<double>& kappas,
                       const std::vector<Tokens>& fresh, Tokens limit) {
  PlanRegions regions{kappas, fresh, {}};
  for (const Tokens count : fresh) {
    for (const double kappa : kappas) {
      const Tokens cached(std::max<int64_t>(1, std::llround(kappa * AsDouble(count))));
      std::optional<TtftKind> best;
      if (cached + count <= limit) {
        best = KindOf(BestPlan(Ttft(d, {cached, count, Tokens(0)})));
      }
      regions.best.push_back(best);
    }
  }
  return regions;
}

}  // namespace sluice
