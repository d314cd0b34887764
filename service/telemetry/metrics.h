// Every metric the server exports, in one place, and the HTTP endpoint that serves them.
//
// Names follow Prometheus practice: sluice_<what>_<unit>, base units only (seconds, bytes),
// counters end in _total. Labels are closed sets known at compile time: never a request, a user or
// a path. Counters that mirror totals kept elsewhere (scheduler stats, activity meter) are advanced
// by the difference once per engine turn.
//
// Thread-safe; Observe() and On…() are called by the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/activity.h"
#include "backend/backend.h"
#include "scheduler/scheduler.h"

namespace prometheus {
class Registry;
}

namespace sluice {

class Metrics {
 public:
  // `info` and `model` label build_info/config_info. Registers everything at once, so that every
  // series exists from the start, at zero.
  Metrics(const BackendInfo& info, const std::string& model);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Once per engine turn: totals so far.
  void Observe(const SchedulerStats& stats, const ActivitySnapshot& activity);

  // One finished step: how many tokens it computed, and whether for prefill, decode or both.
  void OnStep(const StepPlan& plan, const StepResult& result);
  // One finished copy; `queued`: from StartCopies() to its first byte.
  void OnCopy(LinkDirection direction, const CopyResult& result, absl::Duration queued);
  void OnFirstToken(absl::Duration since_arrival);
  void OnInterToken(absl::Duration gap);
  // The end of a request that was queued.
  void OnFinish(const Event::Finish& finish);
  // A request that was refused (queue full, can never fit, draining).
  void OnRefused();

  // One handled rpc. `service` and `method` are compile-time names.
  void OnRpc(const char* service, const char* method, absl::StatusCode code, absl::Duration took);

  std::shared_ptr<prometheus::Registry> registry() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Serves GET /metrics on its own port.
class MetricsServer {
 public:
  // `address` is host:port; port 0 picks a free one.
  // Returns UNAVAILABLE naming the address if it cannot be bound.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& address, std::shared_ptr<prometheus::Registry> registry);
  ~MetricsServer();

  int port() const;

 private:
  class Impl;
  explicit MetricsServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
