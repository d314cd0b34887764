#include "service/cli/storage_tier.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "backend/kv/strong_hash.h"
#include "scheduler/base/status_macros.h"
#include "service/config/flag_values.h"
#include "service/telemetry/remote_series.h"
#include "service/telemetry/tiered_series.h"

namespace sluice {

bool StorageTier::Wanted(const ServeConfig& config) {
  return config.kv_remote.on() || !config.kv_disk_dir.empty();
}

absl::StatusOr<std::unique_ptr<StorageTier>> StorageTier::Open(const ServeConfig& config,
                                                               const DiskNamespace& space,
                                                               std::function<absl::Time()> clock) {
  std::unique_ptr<StorageTier> tier(new StorageTier);
  tier->seed_ = space.Seed();
  SLUICE_RETURN_IF_ERROR(tier->OpenDisk(config, space, clock));
  SLUICE_RETURN_IF_ERROR(tier->OpenRemote(config, space, clock));
  if (tier->disk_ == nullptr || tier->remote_ == nullptr) return tier;
  tier->both_ = std::make_unique<TieredStore>(tier->disk_->store(), tier->remote_->store(),
                                              TieredStoreOptions());
  tier->both_->Adopt(tier->disk_->found());
  tier->store_ = tier->both_.get();
  spdlog::info(
      "storage KV tier: the disk, and beside it the remote store: what is written to one "
      "is copied to the other in the background");
  return tier;
}

absl::Status StorageTier::OpenDisk(const ServeConfig& config, DiskNamespace space,
                                   const std::function<absl::Time()>& clock) {
  if (config.kv_disk_dir.empty()) return absl::OkStatus();
  // Blocks on the disk have the names that they have in the remote store.
  if (config.kv_remote.on()) space.names = "sha256";
  DiskTierOptions options;
  options.directory = config.kv_disk_dir;
  options.limit = config.DiskBytes();
  options.space = std::move(space);
  options.clock = clock;
  SLUICE_ASSIGN_OR_RETURN(disk_, DiskTier::Open(options));
  store_ = &disk_->store();
  return absl::OkStatus();
}

absl::Status StorageTier::OpenRemote(const ServeConfig& config, const DiskNamespace& space,
                                     const std::function<absl::Time()>& clock) {
  if (!config.kv_remote.on()) return absl::OkStatus();
  RemoteConfig remote = config.kv_remote;
  if (disk_ != nullptr) {
    const Blocks slots = disk_->store().shape().slots + TieredStore::kRemoteExtra;
    const auto value = static_cast<int64_t>(RemoteValueFormat(space).value_bytes());
    remote.limit = Bytes(slots.value() * value);
  }
  SLUICE_ASSIGN_OR_RETURN(remote_, RemoteTier::Open(remote, space, clock));
  store_ = &remote_->store();
  return absl::OkStatus();
}

void StorageTier::Flush(absl::Duration timeout) {
  if (both_ == nullptr || both_->Flush(timeout)) return;
  spdlog::warn("storage KV tier: {} were not copied to the other place",
               FormatBytes(both_->stats().waiting));
}

// What others find by its name alone needs names that nobody can make to collide.
BlockHashFunction StorageTier::hash() const {
  return remote_ != nullptr ? &StrongBlockHash : &BlockHash;
}

void StorageTier::Price(const KvGeometry& host, CostCoefficients& cost) const {
  if (disk_ != nullptr) return disk_->Price(host, cost);
  remote_->Price(host, cost);
}

absl::Status StorageTier::Adopt(Scheduler& scheduler) {
  return disk_ != nullptr ? disk_->Adopt(scheduler, *store_) : absl::OkStatus();
}

bool StorageTier::Find(std::vector<BlockIdentity> blocks, std::function<void(size_t)> answer) {
  return remote_->Find(std::move(blocks), std::move(answer));
}

void StorageTier::Bind(std::span<const StoredBlock> blocks) { store_->Bind(blocks); }

void StorageTier::AddSeries(const std::string& model, MetricsOptions* metrics) const {
  if (remote_ != nullptr) {
    metrics->more.push_back(std::make_shared<RemoteSeries>(
        model, [store = &remote_->store()] { return store->stats(); }));
  }
  if (both_ == nullptr) return;
  metrics->more.push_back(
      std::make_shared<TieredSeries>(model, [store = both_.get()] { return store->stats(); }));
}

}  // namespace sluice
