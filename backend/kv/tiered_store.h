// TieredStore keeps KV blocks on this machine's disk, and beside it in a remote store that several
// machines share. A slot is one of the disk's; its block may lie on the disk, under its name in the
// remote store, or in both places, and to whoever copies blocks it is one store.
//
//   write   to the disk; a copy of the bytes waits in a bounded queue for the remote store. What
//           finds no room there, or nobody who answers, stays on the disk only, and is counted.
//           A disk that refuses a block which the queue has taken: the block is remote only.
//   read    from the disk if it is there, and right; otherwise from the remote store, by name. What
//           came from there is copied to the disk in the background, also bounded.
//   drop    forgotten in both places; the remote value stays for others. Erase() removes it there.
//   scan    the disk's records. Bind() names slots whose blocks are only in the remote store.
//
// Bytes are checked here before they count as read, since only so is the other place asked in time;
// whoever reads checks them again, as with any store. An error of the remote store is never told as
// one of the disk: what it alone has and cannot give is gone (NOT_FOUND).
//
// Threads: see BlockStore; Bind() and the rest by any.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/block_queue.h"
#include "backend/kv/block_store.h"
#include "backend/kv/tiered_stats.h"
#include "scheduler/base/units.h"

namespace sluice {

struct TieredStoreOptions {
  // Most that waits for the remote store; most that waits for the disk.
  Bytes copies = MiB(32);
  Bytes fills = MiB(32);
};

class TieredStore final : public BlockStore {
 public:
  // What the remote store must have beyond the disk's slots: the background's own.
  static constexpr Blocks kRemoteExtra{64};

  // Both must outlive it. REQUIRES: equal shapes but for the slots, of which `remote` has at least
  // kRemoteExtra more; `remote` is shared().
  TieredStore(BlockStore& disk, BlockStore& remote, const TieredStoreOptions& options);
  // What still waits is not written; see Flush().
  ~TieredStore() override;

  const StoreShape& shape() const override { return disk_.shape(); }
  const char* place() const override { return "disk+remote"; }
  bool shared() const override { return true; }
  std::string description() const override;

  // Scan() comes first, or Adopt() of what the disk's own Scan() has found.
  absl::StatusOr<StoreContent> Scan() override;
  void Adopt(std::span<const StoredBlock> found);

  void Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) override;
  // DATA_LOSS: the disk has lost it, and it is not to be had from the remote store either.
  // NOT_FOUND: it was only there, and is not to be had.
  void Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) override;
  absl::Status Drop(BlockId slot) override { return Leave(slot, /*erase=*/false); }
  absl::Status Erase(BlockId slot) override { return Leave(slot, /*erase=*/true); }
  void Bind(std::span<const StoredBlock> blocks) override;

  // Waits until nothing waits, or for `timeout`; returns whether nothing does.
  bool Flush(absl::Duration timeout);

  TieredStats stats() const;

 private:
  struct Slot {
    std::optional<BlockIdentity> block;
    bool on_disk = false;
    int64_t generation = 0;  // of its content
  };
  class ReadJob;

  // Empties the slot and returns what it was; what waits for the disk counts no more.
  Slot Forget(BlockId slot);
  absl::Status Leave(BlockId slot, bool erase);
  // Makes slots of Bind() empty on the disk, which may have held others there.
  void DropStale();
  // The slot holds this block now; the remote store is told under which name to look for it.
  void Settle(BlockId slot, int64_t generation, const BlockIdentity& block, bool on_disk);
  void BindRemote(BlockId slot, const BlockIdentity& block);
  // Whether a copy is on its way.
  bool CopyToRemote(BlockId slot, const BlockRecord& record, std::span<const std::byte> payload);
  void CopyBatch(std::span<const CarriedBlock> blocks);
  void FillBatch(std::span<const CarriedBlock> blocks);

  BlockStore& disk_;
  BlockStore& remote_;

  std::mutex disk_writes_;  // one writes to the disk at a time; before mu_
  std::mutex drops_;        // held while stale slots are dropped; before mu_
  mutable std::mutex mu_;
  std::vector<Slot> slots_;     // guarded by mu_, as is what follows
  std::vector<BlockId> stale_;  // bound, and not yet emptied on the disk
  int64_t generation_ = 0;      // the last
  TieredStats stats_;

  // Last: their threads end before anything above does.
  BlockQueue copies_;  // to the remote store
  BlockQueue fills_;   // to the disk
};

}  // namespace sluice
