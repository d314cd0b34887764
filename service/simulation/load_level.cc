#include "service/simulation/load_level.h"

#include <algorithm>

#include "absl/status/status.h"
#include "scheduler/base/status_macros.h"
#include "service/workload/prefix_cache_model.h"

namespace sluice {
namespace {

// Coarse blocks: the estimate is no better for fine ones, and they take longer.
constexpr Tokens kCacheBlock(512);

// How much faster than it can bear requests come to a machine whose rate is measured.
constexpr double kOverload = 2;
// Of a run that took no time at all.
constexpr double kLeastEnd = 1e-9;

double SpanOf(const std::vector<TraceRequest>& requests) {
  return absl::ToDoubleSeconds(requests.back().arrival - requests.front().arrival);
}

std::vector<CacheSample> Sample(const std::vector<TraceRequest>& requests, Tokens capacity) {
  PrefixCacheModelOptions options;
  options.capacity = std::max(capacity, Tokens(1));
  options.block_tokens = kCacheBlock;
  return SamplePrefixCache(requests, options);
}

}  // namespace

Work EstimateWork(const std::vector<TraceRequest>& requests, const SchedulerOptions& options) {
  const KvGeometry& geometry = options.geometry;
  const Tokens device = geometry.TokensIn(options.device_blocks);
  const Tokens host = geometry.TokensIn(options.host_blocks);
  const Tokens disk = geometry.TokensIn(options.disk_blocks);
  const std::vector<CacheSample> on_device = Sample(requests, device);
  const std::vector<CacheSample> in_memory =
      host > Tokens(0) ? Sample(requests, std::max(device, host)) : on_device;
  const std::vector<CacheSample> anywhere =
      disk > Tokens(0) ? Sample(requests, std::max({device, host, disk})) : in_memory;
  std::vector<WorkItem> items(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    WorkItem& item = items[i];
    item.on_device = on_device[i].cached;
    item.on_host = std::max(Tokens(0), in_memory[i].cached - on_device[i].cached);
    item.on_disk = std::max(Tokens(0), anywhere[i].cached - in_memory[i].cached);
    item.fresh = requests[i].input() - item.cached();
    item.output = requests[i].output;
    item.held = requests[i].input() + requests[i].max_new();
  }
  WorkLimits limits;
  limits.step_tokens = options.step_token_limit;
  limits.max_running = options.max_running;
  limits.device_tokens = device;
  return WorkOf(options.cost, limits, items);
}

absl::StatusOr<double> RateScaleFor(const std::vector<TraceRequest>& requests,
                                    const SimulationOptions& options, double utilization,
                                    const std::function<bool(int64_t)>& progress) {
  const auto count = std::min(static_cast<int64_t>(requests.size()), kPilotRequests);
  std::vector<TraceRequest> pilot(requests.begin(), requests.begin() + count);
  const double span = SpanOf(pilot);
  if (span <= 0) {
    return absl::InvalidArgumentError(
        "all requests arrive at once, so their rate cannot be scaled to a utilization; give the "
        "workload a rate");
  }
  const Work work = EstimateWork(pilot, options.scheduler);
  ScaleRate(kOverload * span / work.bottleneck().value(), &pilot);
  SimulationOptions pilot_options = options;
  pilot_options.scheduler.policy = "fcfs";
  pilot_options.scheduler.queue_limit = std::max(count, options.scheduler.queue_limit);
  SLUICE_ASSIGN_OR_RETURN(const SimulationResult result, Simulate(pilot, pilot_options, progress));
  double end = 0;
  for (const RequestRecord& record : result.requests) {
    if (record.finished != kNotYet) end = std::max(end, record.finished);
  }
  // The same requests in `end` seconds instead of `span` are all it can do.
  return utilization * span / std::max(end, kLeastEnd);
}

void ScaleRate(double factor, std::vector<TraceRequest>* requests) {
  for (TraceRequest& request : *requests) {
    request.arrival = absl::Seconds(absl::ToDoubleSeconds(request.arrival) / factor);
  }
}

}  // namespace sluice
