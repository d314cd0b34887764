// RemoteTier: the remote KV tier of a server: its store, what moving blocks costs, and the engine's
// way to look there for what this process does not have.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/remote_lookup.h"
#include "backend/kv/remote_probe.h"
#include "backend/kv/remote_store.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "service/config/remote_config.h"
#include "service/engine/block_finder.h"

namespace sluice {

class RemoteTier final : public BlockFinder {
 public:
  // Connects, and measures the store for a fraction of a second; says in the log what it found. A
  // store that does not answer is no error: blocks are computed until it does. Returns what
  // RemoteAddress::Parse() and RemoteStore::Create() return, PERMISSION_DENIED if the password is
  // wrong or a certificate is not accepted, NOT_FOUND if a file cannot be read, each with the flag
  // to change.
  static absl::StatusOr<std::unique_ptr<RemoteTier>> Open(const RemoteConfig& config,
                                                          const DiskNamespace& space,
                                                          std::function<absl::Time()> clock);

  RemoteStore& store() { return *store_; }
  // For SchedulerOptions::cache_seed.
  uint64_t seed() const { return seed_; }

  // Puts what reading and writing costs here in the place of what is only guessed; blocks count as
  // large as they are on the host (`host`).
  void Price(const KvGeometry& host, CostCoefficients& cost) const;

  bool Find(std::vector<BlockIdentity> blocks, std::function<void(size_t)> answer) override {
    return lookup_->Ask(std::move(blocks), std::move(answer));
  }
  void Bind(std::span<const StoredBlock> blocks) override { store_->Bind(blocks); }

 private:
  RemoteTier() = default;
  absl::Status Connect();
  void Measure(const std::function<absl::Time()>& clock);

  uint64_t seed_ = 0;
  std::unique_ptr<RemoteStore> store_;
  std::optional<RemoteRates> rates_;  // nullopt: not measured
  std::unique_ptr<RemoteLookup> lookup_;
};

}  // namespace sluice
