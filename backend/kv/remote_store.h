// RemoteStore keeps KV blocks in a Redis-protocol server (Redis, Valkey, KeyDB, Dragonfly) that
// several servers share. A slot is this process's name for a block there: the scheduler decides
// which blocks have one, and the server there, which evicts and expires as it likes, whether the
// block is still to be had.
//
// What another server has written is not written again: its time to live is renewed. A block that
// loses its slot here stays there for the others. One that was read and turned out bad is removed
// there as well, when the slot is dropped.
//
// Everything is limited in time (RemotePool), and nothing is asked while the breaker is not closed:
// a server that is away costs blocks, no request and no waiting.
//
// Threads: see BlockStore; Bind() and Find() by any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/block_store.h"
#include "backend/kv/disk_namespace.h"
#include "backend/kv/remote_pool.h"
#include "backend/kv/remote_stats.h"
#include "backend/kv/remote_value.h"

namespace sluice {

struct RemoteStoreOptions {
  DiskNamespace space;  // its shape's slots are not looked at
  // What the blocks that this process keeps track of may come to, there.
  Bytes limit;
  absl::Duration ttl = absl::Hours(24);  // of a block since its last use; 0: for ever
  RemotePoolOptions pool;
};

class RemoteStore final : public BlockStore {
 public:
  // Does not connect. Returns INVALID_ARGUMENT if `limit` has no room for a block.
  static absl::StatusOr<std::unique_ptr<RemoteStore>> Create(RemoteStoreOptions options);

  const StoreShape& shape() const override { return shape_; }
  Tier tier() const override { return Tier::kRemote; }
  bool shared() const override { return true; }
  bool reachable() const override { return pool_.closed(); }
  std::string description() const override;
  // What a block takes there, without the server's own overhead.
  Bytes value_bytes() const { return Bytes(static_cast<int64_t>(format_.value_bytes())); }

  // Besides BlockStore's: RESOURCE_EXHAUSTED (out of memory there), PERMISSION_DENIED,
  // DEADLINE_EXCEEDED.
  void Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) override;
  // NOT_FOUND: it is gone there.
  void Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) override;
  absl::Status Drop(BlockId slot) override { return Leave(slot, /*remove=*/false); }
  absl::Status Erase(BlockId slot) override { return Leave(slot, /*remove=*/true); }
  // Nothing: what is there is found by name (Find()).
  absl::StatusOr<StoreContent> Scan() override { return StoreContent(); }

  // How many of `blocks`, from the front, are there now; renews their time to live.
  absl::StatusOr<size_t> Find(std::span<const BlockIdentity> blocks);
  // From now on these slots hold these blocks, which Find() has found. REQUIRES: nobody reads or
  // writes these slots.
  void Bind(std::span<const StoredBlock> blocks) override;

  RemotePool& pool() { return pool_; }
  const RemoteValueFormat& format() const { return format_; }
  RemoteStats stats() const;

 private:
  struct Slot {
    std::optional<BlockIdentity> block;
    bool read = false;  // its value was received: whoever drops it now found it bad
  };
  class WriteJob;
  class ReadJob;

  RemoteStore(RemoteStoreOptions options, const StoreShape& shape);
  // Values that may be on their way to the server at a time.
  size_t SendAhead() const;
  // Values that may be asked for before the first of them is here.
  size_t ReadAhead() const;
  void Unbind(BlockId slot);
  // Empties the slot; removes its value if told so, or if it was found bad.
  absl::Status Leave(BlockId slot, bool remove);
  void Remember(BlockId slot, const BlockIdentity& block);
  // The words that ask whether a block is there.
  std::vector<std::string> Question(const BlockIdentity& block) const;
  void Count(RemoteError error);
  // Counts an error that the server answered with, and returns it as a status.
  absl::Status Refusal(const std::string& text);

  const StoreShape shape_;
  const RemoteValueFormat format_;
  const int64_t ttl_s_;
  RemotePool pool_;

  mutable std::mutex mu_;
  std::vector<Slot> slots_;  // guarded by mu_
  RemoteStats stats_;        // guarded by mu_
};

}  // namespace sluice
