// TieredSeries: where the blocks of a tier over a disk and a remote store come from and go to, read
// at the moment of a scrape:
//
//   sluice_kv_storage_blocks_read_total{place}, _bytes_read_total{place}   disk, remote
//   sluice_kv_storage_wrong_blocks_total{place}   bytes that were not what was written
//   sluice_kv_storage_rescued_blocks_total        not to be had from the disk, read from remote
//   sluice_kv_storage_lost_blocks_total           had from neither, and computed instead
//   sluice_kv_storage_copies_total{result}        to the remote store: written, full, away, failed
//   sluice_kv_storage_fills_total{result}         to the disk: written, full, failed
//   sluice_kv_storage_waiting_bytes               copies and fills that wait
//   sluice_kv_storage_remote_only_blocks_total    the disk took them not, the queue did
//
// Thread-safe.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backend/kv/tiered_stats.h"
#include "prometheus/collectable.h"

namespace sluice {

class TieredSeries final : public prometheus::Collectable {
 public:
  // `read` answers from any thread, as long as anybody scrapes. `model`: the label all series have.
  TieredSeries(std::string model, std::function<TieredStats()> read);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::string model_;
  const std::function<TieredStats()> read_;
};

}  // namespace sluice
