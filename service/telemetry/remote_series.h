// RemoteSeries: what a remote KV tier does, read at the moment of a scrape:
//
//   sluice_kv_remote_breaker_state             0 closed, 1 half open, 2 open
//   sluice_kv_remote_breaker_opened_total, _trials_total
//   sluice_kv_remote_errors_total{kind}        timeout, connection, refused, full, other
//   sluice_kv_remote_blocks_total{result}      read, missed, written, shared
//   sluice_kv_remote_lookups_total, sluice_kv_remote_found_blocks_total
//   sluice_kv_remote_connections_total
//
// Thread-safe.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backend/kv/remote_stats.h"
#include "prometheus/collectable.h"

namespace sluice {

class RemoteSeries final : public prometheus::Collectable {
 public:
  // `read` answers from any thread, as long as anybody scrapes. `model`: the label all series have.
  RemoteSeries(std::string model, std::function<RemoteStats()> read);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::string model_;
  const std::function<RemoteStats()> read_;
};

}  // namespace sluice
