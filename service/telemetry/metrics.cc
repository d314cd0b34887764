#include "service/telemetry/metrics.h"

#include <algorithm>
#include <utility>

#include "service/telemetry/activity_collector.h"
#include "service/telemetry/buckets.h"
#include "service/telemetry/cache_series.h"
#include "service/telemetry/kv_event_series.h"
#include "service/telemetry/process_collector.h"
#include "service/telemetry/request_series.h"
#include "service/telemetry/series.h"
#include "service/telemetry/step_series.h"
#include "service/telemetry/vllm_aliases.h"

namespace sluice {
namespace {

// Several collectables as one page.
class Page final : public prometheus::Collectable {
 public:
  explicit Page(std::vector<std::shared_ptr<prometheus::Collectable>> parts)
      : parts_(std::move(parts)) {
    std::erase(parts_, nullptr);
  }

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> families;
    for (const auto& part : parts_) {
      for (prometheus::MetricFamily& family : part->Collect()) {
        families.push_back(std::move(family));
      }
    }
    return families;
  }

 private:
  std::vector<std::shared_ptr<prometheus::Collectable>> parts_;
};

void SetInfo(SeriesMaker& make, const BackendInfo& info, const std::string& policy) {
  make.Gauges("sluice_build_info", "Always 1; labels say what runs.")
      .Add({{"version", SLUICE_VERSION}, {"backend", info.name}, {"dtype", info.dtype}})
      .Set(1);
  make.Gauges("sluice_config_info", "Always 1; labels say how it is configured.")
      .Add({{"block_size", std::to_string(info.geometry.tokens_per_block.value())},
            {"device_blocks", std::to_string(info.device_blocks.value())},
            {"host_blocks", std::to_string(info.host_blocks.value())},
            {"policy", policy},
            {"link_emulated", info.link_emulated ? "true" : "false"}})
      .Set(1);
}

}  // namespace

class Metrics::Impl {
 public:
  Impl(const BackendInfo& info, const std::string& model, MetricsOptions options)
      : make(*registry, {{"model", model}}),
        requests(make),
        tenants(make),
        cache(make, info),
        kv_events(make),
        steps(make, info.storage_tier),
        activity(
            std::make_shared<ActivityCollector>(info, model, std::move(options.read_activity))) {
    SetInfo(make, info, options.policy);
    std::vector<std::shared_ptr<prometheus::Collectable>> parts = std::move(options.more);
    parts.insert(parts.begin(), {registry, activity, std::make_shared<ProcessCollector>()});
    native = std::make_shared<Page>(std::move(parts));
    aliases = std::make_shared<VllmAliases>(info, model, native);
  }

  const std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  SeriesMaker make;
  RequestSeries requests;
  TenantSeries tenants;
  CacheSeries cache;
  KvEventSeries kv_events;
  StepSeries steps;
  const std::shared_ptr<ActivityCollector> activity;
  RecentQuantiles first_token;
  RecentQuantiles inter_token;
  prometheus::Family<prometheus::Counter>& handled =
      make.Counters("sluice_grpc_server_handled_total", "Rpcs that ended, by code.");
  prometheus::Family<prometheus::Histogram>& handling =
      make.Histograms("sluice_grpc_server_handling_seconds", "Duration of rpcs.");
  std::shared_ptr<prometheus::Collectable> native;
  std::shared_ptr<prometheus::Collectable> aliases;
};

Metrics::Metrics(const BackendInfo& info, const std::string& model, MetricsOptions options)
    : impl_(std::make_unique<Impl>(info, model, std::move(options))) {}

Metrics::~Metrics() = default;

std::shared_ptr<prometheus::Collectable> Metrics::native() const { return impl_->native; }
std::shared_ptr<prometheus::Collectable> Metrics::vllm_aliases() const { return impl_->aliases; }

void Metrics::Observe(const SchedulerStats& stats, const ActivitySnapshot& activity) {
  impl_->requests.Observe(stats);
  impl_->cache.Observe(stats);
  impl_->steps.Observe(activity.wall(), stats.steps_ahead);
  impl_->activity->Observe(activity);
}

void Metrics::OnStep(const StepPlan& plan, const StepResult& result) {
  impl_->steps.OnStep(plan, result);
}

void Metrics::OnCopiesStarted(LinkDirection direction, int64_t count) {
  impl_->steps.OnCopiesStarted(direction, count);
}

void Metrics::OnCopy(LinkDirection direction, const CopyResult& result, absl::Duration queued) {
  impl_->steps.OnCopy(direction, result, queued);
}

int Metrics::OnArrival(const std::string& tenant) {
  const int slot = impl_->tenants.Slot(tenant);
  impl_->tenants.OnArrival(slot);
  return slot;
}

void Metrics::OnFirstToken(int tenant, absl::Duration since_arrival, absl::Time now) {
  impl_->requests.OnFirstToken(since_arrival);
  impl_->tenants.OnFirstToken(tenant, since_arrival);
  impl_->first_token.Add(since_arrival, now);
}

void Metrics::OnInterToken(absl::Duration gap, absl::Time now) {
  impl_->requests.OnInterToken(gap);
  impl_->inter_token.Add(gap, now);
}

void Metrics::OnFinish(int tenant, const Event::Finish& finish, const RequestTimes& times) {
  impl_->requests.OnFinish(finish, times);
  impl_->tenants.OnFinish(tenant, finish.stats);
}

void Metrics::OnRefused() { impl_->requests.OnRefused(); }

void Metrics::OnRefused(int tenant) {
  impl_->requests.OnRefused();
  impl_->tenants.OnRefused(tenant);
}

void Metrics::OnKvEvents(size_t count) { impl_->kv_events.OnEvents(count); }
void Metrics::OnKvSubscribed() { impl_->kv_events.OnSubscribed(); }
void Metrics::OnKvUnsubscribed(absl::StatusCode code) { impl_->kv_events.OnUnsubscribed(code); }

void Metrics::OnRpc(const char* service, const char* method, absl::StatusCode code,
                    absl::Duration took) {
  const Labels at = {{"service", service}, {"method", method}};
  impl_->handled
      .Add({{"service", service}, {"method", method}, {"code", absl::StatusCodeToString(code)}})
      .Increment();
  impl_->handling.Add(at, buckets::kRpcSeconds).Observe(absl::ToDoubleSeconds(took));
}

RecentQuantiles::Summary Metrics::RecentFirstToken(absl::Time now) const {
  return impl_->first_token.Read(now);
}

RecentQuantiles::Summary Metrics::RecentInterToken(absl::Time now) const {
  return impl_->inter_token.Read(now);
}

std::vector<TenantUse> Metrics::BusiestTenants(size_t limit) const {
  return impl_->tenants.Busiest(limit);
}

}  // namespace sluice
