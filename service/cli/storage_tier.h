// StorageTier: the tier behind host memory of a server, wherever it lies: on a disk, in a remote
// store, or on both. It is one to the backend (a BlockStore), to the scheduler (slots, prices,
// names of blocks) and to the engine (a BlockFinder); whoever serves need not know which it is.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/block_store.h"
#include "backend/kv/disk_namespace.h"
#include "backend/kv/tiered_store.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/scheduler.h"
#include "service/cli/disk_tier.h"
#include "service/cli/remote_tier.h"
#include "service/config/serve_config.h"
#include "service/engine/block_finder.h"
#include "service/telemetry/metrics.h"

namespace sluice {

class StorageTier final : public BlockFinder {
 public:
  // Whether the flags ask for one.
  static bool Wanted(const ServeConfig& config);

  // Opens what the flags ask for; `space`: what must be equal for KV to be used again by another
  // process. Says in the log what it found. Returns what DiskTier and RemoteTier return.
  // REQUIRES: Wanted(config), and config.Validate() is OK.
  static absl::StatusOr<std::unique_ptr<StorageTier>> Open(const ServeConfig& config,
                                                           const DiskNamespace& space,
                                                           std::function<absl::Time()> clock);

  // For the backend, which it must outlive.
  BlockStore& store() { return *store_; }
  // "disk", "remote", "disk+remote".
  const char* name() const { return store_->place(); }

  // For SchedulerOptions::cache_seed, and the function that names blocks. Servers that share a
  // remote store have them in common, with or without a disk of their own.
  uint64_t seed() const { return seed_; }
  BlockHashFunction hash() const;

  // Puts what reading and writing costs here in the place of what is only guessed; blocks count as
  // large as they are on the host (`host`). There is one price per direction: with both places it
  // is the disk's, where nearly all that is read lies.
  void Price(const KvGeometry& host, CostCoefficients& cost) const;

  // Waits until what the store copies in the background is done, or for `timeout`.
  void Flush(absl::Duration timeout);

  // Gives the scheduler the blocks that are there from before. Once, before the first request.
  absl::Status Adopt(Scheduler& scheduler);

  // What finds blocks of arriving prompts; null: nobody else writes there.
  BlockFinder* finder() { return remote_ != nullptr ? this : nullptr; }
  // REQUIRES: finder() is not null.
  bool Find(std::vector<BlockIdentity> blocks, std::function<void(size_t)> answer) override;
  void Bind(std::span<const StoredBlock> blocks) override;

  // Adds metrics of its own, which may be read as long as it lives. `model`: the label all have.
  void AddSeries(const std::string& model, MetricsOptions* metrics) const;

 private:
  StorageTier() = default;
  absl::Status OpenDisk(const ServeConfig& config, DiskNamespace space,
                        const std::function<absl::Time()>& clock);
  absl::Status OpenRemote(const ServeConfig& config, const DiskNamespace& space,
                          const std::function<absl::Time()>& clock);

  uint64_t seed_ = 0;
  std::unique_ptr<DiskTier> disk_;      // null: none
  std::unique_ptr<RemoteTier> remote_;  // null: none
  std::unique_ptr<TieredStore> both_;   // null: not both
  BlockStore* store_ = nullptr;         // the one of these that is used
};

}  // namespace sluice
