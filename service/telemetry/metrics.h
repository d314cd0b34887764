// Every metric the server exports, in one place.
//
// Names follow Prometheus practice: sluice_<what>_<unit>, base units only (seconds, bytes, joules,
// ratio), counters end in _total. Labels are closed sets known at compile time: never a request, a
// user or a path; the one exception is `tenant`, whose values are bounded in number
// (tenant_series.h). Counters that mirror totals kept elsewhere (scheduler stats) are advanced by
// the difference once per engine turn; device and link activity is read when somebody scrapes.
//
// Thread-safe; Observe() and On…() are called by the engine thread, except OnRefused(), OnRpc() and
// those of subscriptions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backend/activity.h"
#include "backend/backend.h"
#include "scheduler/scheduler.h"
#include "service/telemetry/recent_quantiles.h"
#include "service/telemetry/request_times.h"
#include "service/telemetry/tenant_series.h"

namespace prometheus {
class Collectable;
}

namespace sluice {

struct MetricsOptions {
  // Answers with the activity so far, from any thread; what it refers to must outlive the last
  // scrape. Empty: the totals are those of the last Observe().
  std::function<ActivitySnapshot()> read_activity;
  // More for the native page, such as a PowerMeter; nulls are left out.
  std::vector<std::shared_ptr<prometheus::Collectable>> more;
  // Labels of sluice_config_info besides the sizes of the pools.
  std::string policy;
};

class Metrics {
 public:
  // `info` and `model` label build_info/config_info. Registers everything at once, so that every
  // series exists from the start, at zero.
  Metrics(const BackendInfo& info, const std::string& model, MetricsOptions options = {});
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Once per engine turn: totals so far.
  void Observe(const SchedulerStats& stats, const ActivitySnapshot& activity);

  // One finished step: how many tokens it computed, and whether for prefill, decode or both.
  void OnStep(const StepPlan& plan, const StepResult& result);
  // Copies handed to the backend.
  void OnCopiesStarted(LinkDirection direction, int64_t count);
  // One finished copy; `queued`: from StartCopies() to its first byte.
  void OnCopy(LinkDirection direction, const CopyResult& result, absl::Duration queued);

  // A request reached the scheduler. Returns the tenant's slot for the calls below.
  int OnArrival(const std::string& tenant);
  void OnFirstToken(int tenant, absl::Duration since_arrival, absl::Time now);
  void OnInterToken(absl::Duration gap, absl::Time now);
  // The end of a request that was queued.
  void OnFinish(int tenant, const Event::Finish& finish, const RequestTimes& times);
  // A request that was refused (queue full, can never fit, draining): before it had a slot, or
  // after.
  void OnRefused();
  void OnRefused(int tenant);

  // KV blocks that subscribers are told of; a SubscribeKvEvents stream that begins, or ends.
  void OnKvEvents(size_t count);
  void OnKvSubscribed();
  void OnKvUnsubscribed(absl::StatusCode code);

  // One handled rpc. `service` and `method` are compile-time names.
  void OnRpc(const char* service, const char* method, absl::StatusCode code, absl::Duration took);

  // The two pages of the endpoint: the sluice_ series, and vLLM's names for the same numbers.
  std::shared_ptr<prometheus::Collectable> native() const;
  std::shared_ptr<prometheus::Collectable> vllm_aliases() const;

  // Of the last seconds, for people who watch. Any thread.
  RecentQuantiles::Summary RecentFirstToken(absl::Time now) const;
  RecentQuantiles::Summary RecentInterToken(absl::Time now) const;
  std::vector<TenantUse> BusiestTenants(size_t limit) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
