// DiskTier: the disk tier of a server: its store, opened and scanned, and what moving blocks costs.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/disk_store.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/scheduler.h"

namespace sluice {

struct DiskTierOptions {
  std::string directory;
  Bytes limit;
  DiskNamespace space;
  std::function<absl::Time()> clock;
};

class DiskTier {
 public:
  // Opens the store, reads its records and measures the disk for a fraction of a second; says in
  // the log what it found. Returns what DiskStore::Open() returns, with the flag to change.
  static absl::StatusOr<std::unique_ptr<DiskTier>> Open(const DiskTierOptions& options);

  BlockStore& store() { return *store_; }
  // For SchedulerOptions::cache_seed.
  uint64_t seed() const { return options_.space.Seed(); }

  // Puts what reading and writing costs here in the place of what is only guessed. The scheduler
  // counts blocks as large as they are on the host (`host`), whatever the disk's codec makes of
  // them.
  void Price(const KvGeometry& host, CostCoefficients& cost) const;

  // What was there when it was opened. Until Adopt().
  std::span<const StoredBlock> found() const { return content_.blocks; }

  // Gives the scheduler the blocks that are there, and drops those it has no use for from
  // `through`, which is store() or one before it; says so in the log. Once, before the first
  // request.
  absl::Status Adopt(Scheduler& scheduler, BlockStore& through);

 private:
  explicit DiskTier(const DiskTierOptions& options) : options_(options) {}
  absl::Status Scan();
  void Measure();
  void LogOthers() const;

  const DiskTierOptions options_;
  std::unique_ptr<DiskStore> store_;
  StoreContent content_;
  absl::Duration scan_time_;
  LinkCoefficients read_;
  LinkCoefficients write_;
  bool measured_ = false;
};

}  // namespace sluice
