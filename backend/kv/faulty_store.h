// FaultyStore: a store that goes wrong as disks do, with chosen probabilities, repeatably: the same
// seed and the same calls give the same faults. For tests, and for drills with a real server.
//
// Threads: see BlockStore. With several threads the order of calls, and so the faults, may differ.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <random>
#include <string>

#include "absl/time/time.h"
#include "backend/kv/block_store.h"

namespace sluice {

enum class StoreFault : uint8_t {
  kWriteError,   // UNAVAILABLE, nothing is written
  kNoSpace,      // RESOURCE_EXHAUSTED, nothing is written
  kTornWrite,    // told to be fine; the second half of the bytes never arrives
  kLostWrite,    // told to be fine; nothing arrives
  kReadError,    // UNAVAILABLE
  kShortRead,    // told to be fine; the rest of the memory is as it was
  kBitFlip,      // told to be fine; one bit is another
  kOtherBlock,   // told to be fine; the record is another block's
  kOtherRecord,  // told to be fine; a checksum of the record is another
  kDelay,        // the call takes `delay` longer
};
inline constexpr int kStoreFaultCount = 10;

struct FaultyStoreOptions {
  uint64_t seed = 0;
  // Probability of each fault, per block; of the delay, per call.
  std::array<double, kStoreFaultCount> probability{};
  absl::Duration delay = absl::Milliseconds(1);
  std::function<void(absl::Duration)> pause;  // how to wait; required for kDelay

  FaultyStoreOptions& With(StoreFault fault, double p) {
    probability[static_cast<size_t>(fault)] = p;
    return *this;
  }
};

class FaultyStore final : public BlockStore {
 public:
  // `base` must outlive it.
  FaultyStore(BlockStore& base, FaultyStoreOptions options);

  const StoreShape& shape() const override { return base_.shape(); }
  Tier tier() const override { return base_.tier(); }
  const char* place() const override { return base_.place(); }
  bool shared() const override { return base_.shared(); }
  bool reachable() const override { return base_.reachable(); }
  std::string description() const override { return base_.description() + ", with faults"; }
  void Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) override;
  void Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) override;
  absl::Status Drop(BlockId slot) override { return base_.Drop(slot); }
  absl::Status Erase(BlockId slot) override { return base_.Erase(slot); }
  absl::StatusOr<StoreContent> Scan() override { return base_.Scan(); }
  void Bind(std::span<const StoredBlock> blocks) override { base_.Bind(blocks); }

  int64_t count(StoreFault fault) const;  // injected so far
  // Of these, those that a reader cannot be told of by status.
  int64_t silent_read_faults() const;

 private:
  bool Draw(StoreFault fault);
  uint64_t Random();
  void Delay();
  void Spoil(StoreRead& read);

  BlockStore& base_;
  const FaultyStoreOptions options_;
  mutable std::mutex mu_;
  std::mt19937_64 random_;                          // guarded by mu_
  std::array<int64_t, kStoreFaultCount> counts_{};  // guarded by mu_
};

}  // namespace sluice
