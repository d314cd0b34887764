#include "service/simulation/summary.h"

#include <algorithm>
#include <cmath>

#include "backend/sim/sim_activity.h"

namespace sluice {
namespace {

constexpr int kFairnessWindows = 50;

struct KappaRange {
  const char* label;
  double below;
};
constexpr std::array<KappaRange, kKappaBuckets> kRanges = {{{"0", 1e-9},
                                                            {"0-1", 1},
                                                            {"1-10", 10},
                                                            {"10-100", 100},
                                                            {"100-1000", 1000},
                                                            {"1000+", kNotYet}}};

size_t BucketOf(double kappa) {
  size_t bucket = 0;
  while (bucket + 1 < kRanges.size() && kappa >= kRanges[bucket].below) ++bucket;
  return bucket;
}

WorkItem ItemOf(const RequestRecord& record) {
  WorkItem item;
  item.on_device = record.cached[static_cast<size_t>(Tier::kDevice)];
  item.on_host = record.cached[static_cast<size_t>(Tier::kHost)] + record.cached_recomputed;
  item.on_disk = record.cached[static_cast<size_t>(Tier::kDisk)];
  item.fresh = record.computed - record.cached_recomputed;
  item.output = std::max(record.output, Tokens(1));
  return item;
}

// The same without what others loaded: blocks that several requests wait for move once.
WorkItem OwnWorkOf(const RequestRecord& record, const CostCoefficients& cost, WorkItem item) {
  const Tokens own =
      record.cached_recomputed + Tokens(record.loaded.value() / cost.kv_bytes_per_token.value());
  const Tokens joined = std::max(Tokens(0), item.on_host + item.on_disk - own);
  item.on_device += joined;
  const Tokens from_host = std::min(joined, item.on_host);
  item.on_host -= from_host;
  item.on_disk -= joined - from_host;
  return item;
}

// What is collected request by request.
struct Collected {
  std::vector<WorkItem> items;
  std::vector<double> ttfts;
  std::vector<double> slowdowns;
  std::vector<double> prediction_errors;
  std::array<std::vector<double>, kKappaBuckets> bucket_ttfts;
  std::array<std::vector<double>, kKappaBuckets> bucket_slowdowns;
};

void CollectFirstToken(const RequestRecord& record, double alone, Collected* c) {
  const size_t bucket = BucketOf(record.kappa);
  c->ttfts.push_back(record.ttft());
  c->bucket_ttfts[bucket].push_back(record.ttft());
  if (alone > 0) {
    c->slowdowns.push_back(record.ttft() / alone);
    c->bucket_slowdowns[bucket].push_back(record.ttft() / alone);
  }
  if (std::isfinite(record.predicted_ttft) && record.ttft() > 0) {
    c->prediction_errors.push_back(std::abs(record.predicted_ttft - record.ttft()) / record.ttft());
  }
}

// Waits, promised and had.
void CollectWait(const RequestRecord& record, Summary* s) {
  s->max_wait_s = std::max(s->max_wait_s, record.wait());
  s->wait_bound_s = std::max(s->wait_bound_s, record.wait_bound);
  if (record.wait() > record.wait_bound) ++s->beyond_wait_bound;
}

void CountEnd(const RequestRecord& record, Summary* s) {
  ++s->requests;
  if (record.completed()) {
    ++s->completed;
  } else {
    ++(record.refused ? s->rejected : s->failed);
  }
}

void SummarizeMachine(const SimulationResult& result, const CostCoefficients& cost, Summary* s) {
  const ActivitySnapshot& activity = result.activity;
  s->device_busy_s = absl::ToDoubleSeconds(activity.compute_only + activity.both);
  for (size_t d = 0; d < kLinkDirectionCount; ++d) {
    s->link_busy_s[d] = absl::ToDoubleSeconds(activity.links[d].busy);
  }
  s->exposed_link_s = absl::ToDoubleSeconds(result.exposed);
  s->energy_j = EnergyOf(cost, activity).value();
  s->recomputed_tokens = result.scheduler.tokens_recomputed.value();
}

void SummarizeCollected(Collected c, Summary* s) {
  s->ttft_s = DistributionOf(std::move(c.ttfts));
  s->slowdown = DistributionOf(std::move(c.slowdowns));
  if (!c.prediction_errors.empty()) {
    s->ttft_prediction_error = DistributionOf(std::move(c.prediction_errors)).p50;
  }
  for (size_t i = 0; i < kKappaBuckets; ++i) {
    KappaBucket& bucket = s->kappa[i];
    bucket.label = kRanges[i].label;
    bucket.requests = static_cast<int64_t>(c.bucket_ttfts[i].size());
    bucket.ttft_s = DistributionOf(std::move(c.bucket_ttfts[i]));
    bucket.slowdown = DistributionOf(std::move(c.bucket_slowdowns[i]));
  }
}

}  // namespace

Summary Summarize(const SimulationResult& result, const CostCoefficients& cost,
                  const WorkLimits& limits, const std::vector<double>& weights) {
  Summary s;
  Collected c;
  double first = kNotYet;
  double last = 0;
  for (const RequestRecord& record : result.requests) {
    CountEnd(record, &s);
    if (record.refused) continue;
    first = std::min(first, record.arrival);
    last = std::max(last, record.finished);
    if (record.admitted == kNotYet) continue;
    CollectWait(record, &s);
    const WorkItem item = ItemOf(record);
    c.items.push_back(OwnWorkOf(record, cost, item));
    if (record.first_token == kNotYet) continue;
    CollectFirstToken(record, AloneTtft(cost, limits.step_tokens, item).value(), &c);
  }
  s.makespan_s = s.requests > s.rejected ? last - first : 0;
  s.work = WorkOf(cost, limits, c.items);
  s.bound_s = s.work.Bound().value();
  s.itl_s = result.token_gaps;
  s.fairness = FairnessOf(result.requests, weights, kFairnessWindows);
  SummarizeCollected(std::move(c), &s);
  SummarizeMachine(result, cost, &s);
  return s;
}

std::vector<double> TtftsOf(const SimulationResult& result) {
  std::vector<double> ttfts;
  for (const RequestRecord& record : result.requests) {
    if (!record.refused && record.first_token != kNotYet) ttfts.push_back(record.ttft());
  }
  return ttfts;
}

}  // namespace sluice
