// The series of tenants. Tenants are named by clients, so their number is bounded here: the first
// `kMaxTenants` get series of their own, the rest share those of "other".
//
// Engine thread only, except Busiest() and prometheus reading.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "scheduler/scheduler.h"
#include "service/telemetry/series.h"

namespace sluice {

inline constexpr int kMaxTenants = 32;

// One tenant since start.
struct TenantUse {
  std::string name;
  int64_t live = 0;  // queued or running
  int64_t finished = 0;
  Tokens prompt;
  Tokens output;
  absl::Duration device;  // its share of steps
  absl::Duration link;    // its loads
};

class TenantSeries {
 public:
  explicit TenantSeries(SeriesMaker& make);

  // The place of `tenant`; the same for all that share series.
  int Slot(const std::string& tenant);

  void OnArrival(int slot);
  void OnFirstToken(int slot, absl::Duration since_arrival);
  void OnFinish(int slot, const RequestStats& stats);
  // A request that arrived and was then refused.
  void OnRefused(int slot);

  // At most `limit` tenants, those with the most device time first. Any thread.
  std::vector<TenantUse> Busiest(size_t limit) const;

 private:
  struct Series {
    prometheus::Counter *finished, *rejected, *prompt, *output, *device, *link, *block_seconds;
    prometheus::Histogram* ttft;
  };
  int AddSlot(const std::string& name);

  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& tokens_;
  prometheus::Family<prometheus::Counter>& device_;
  prometheus::Family<prometheus::Counter>& link_;
  prometheus::Family<prometheus::Counter>& block_seconds_;
  prometheus::Family<prometheus::Histogram>& ttft_;

  absl::flat_hash_map<std::string, int> slots_;
  std::vector<Series> series_;
  int other_ = -1;

  mutable std::mutex mu_;
  std::vector<TenantUse> use_;  // guarded by mu_; by slot
};

}  // namespace sluice
