// BlockStore keeps KV blocks off memory in numbered slots, each with a record that says whose block
// it is and what its bytes were. DiskStore is one; FaultyStore makes any of them fail.
//
// A store is trusted with nothing: whoever writes a block seals its record (checksums over the
// bytes, tied to the block's name), and whoever reads it checks name and bytes (CheckPayload)
// before they are used. So a store that loses, swaps or changes bytes costs a block, never a wrong
// answer.
//
// Threads: one may write while another reads; Drop() and Scan() by any. No slot is read while it is
// written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

// The size of everything in a store; fixed while it lives.
struct StoreShape {
  Blocks slots;
  Bytes payload;       // of a block
  int64_t layers = 1;  // of a block: equal slices of its payload, one after the other
  Tokens tokens_per_block;

  Bytes layer_bytes() const { return Bytes(payload.value() / layers); }

  // Returns INVALID_ARGUMENT naming the number out of range.
  absl::Status Validate() const;
};

struct BlockRecord {
  BlockIdentity identity;
  std::vector<TokenId> tokens;      // tokens_per_block
  std::vector<uint64_t> checksums;  // per layer slice: XXH3-64, seeded with identity and layer
};

// The record of a block with these bytes. `payload`: whole layer slices.
BlockRecord SealBlock(const BlockIdentity& identity, std::span<const TokenId> tokens,
                      std::span<const std::byte> payload, int64_t layers);

// Whether `bytes`, which are layers [first_layer, …) of a block, are those of `record`, and the
// record is that of the block `wanted`. Returns DATA_LOSS naming what differs.
// REQUIRES: `bytes` is a multiple of `layer_bytes`; layer_bytes > 0.
absl::Status CheckPayload(const BlockRecord& record, const BlockIdentity& wanted,
                          std::span<const std::byte> bytes, Bytes layer_bytes, int64_t first_layer);

// The same in steps, while the bytes arrive and are still in a cache; its owner is who reads.
class PayloadCheck {
 public:
  // As CheckPayload(); `wanted` and the bytes outlive it.
  PayloadCheck(const BlockIdentity& wanted, std::span<const std::byte> bytes, Bytes layer_bytes,
               int64_t first_layer);

  // So many bytes, from the first, are there and will not change. 0: none; what came before is
  // forgotten.
  void Arrived(size_t count);
  // All have arrived.
  absl::Status Finish(const BlockRecord& record);

 private:
  const BlockIdentity* wanted_;
  std::span<const std::byte> bytes_;
  size_t slice_;
  int64_t first_layer_;
  std::vector<uint64_t> found_;  // of the slices that are there
};

// One block to write. `status`: set by the store.
struct StoreWrite {
  BlockId slot;
  std::span<const std::byte> payload;
  absl::Status status;
  const BlockIdentity* identity = nullptr;  // whose it is, if known before it is sealed
};

// One block, or some of its layers, to read.
struct StoreRead {
  BlockId slot;
  int64_t first_layer = 0;
  std::span<std::byte> out;  // whole layer slices
  // Told by a store that can of bytes as they arrive. Who changes bytes behind a store, or reads
  // elsewhere what it could not, takes care that this hears nothing of them, or Arrived(0).
  PayloadCheck* check = nullptr;
  BlockRecord record;  // set by the store, as is `status`
  absl::Status status;
};

// What Scan() has found. The spans of `blocks` view `tokens`.
struct StoreContent {
  std::vector<StoredBlock> blocks;  // oldest first
  std::vector<TokenId> tokens;
  int64_t broken = 0;   // records that are torn or changed; dropped
  int64_t orphans = 0;  // blocks whose prefix is not all there; dropped
};

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  virtual const StoreShape& shape() const = 0;
  // Under which tier its blocks are counted: kDisk, or kRemote.
  virtual Tier tier() const { return Tier::kDisk; }
  // Where its blocks are, for people: "disk", "remote", "disk+remote".
  virtual const char* place() const { return tier() == Tier::kRemote ? "remote" : "disk"; }
  // Whether others remove blocks from it as well: one that is gone is no sign of damage.
  virtual bool shared() const { return false; }
  // Whether there is any use in asking it now.
  virtual bool reachable() const { return true; }
  // For logs: "io_uring, O_DIRECT".
  virtual std::string description() const = 0;

  // Writes all, each in its slot, whose old block is forgotten first; parents before children where
  // both are here. `seal(i)` gives the record of write i; it is called once per write, on this
  // thread, while bytes are on their way, unless the block is known to be there already. A failed
  // write leaves its slot empty. Statuses: RESOURCE_EXHAUSTED (no space), PERMISSION_DENIED
  // (read-only), UNAVAILABLE (I/O error).
  virtual void Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) = 0;

  // Reads all. `done(i)` is called once per read, on this thread, in any order, while others are on
  // their way; its bytes are unchecked. Statuses: NOT_FOUND (empty slot), DATA_LOSS (its record is
  // broken, or the file is too short), UNAVAILABLE (I/O error).
  virtual void Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) = 0;

  // Forgets what is in the slot, if anything.
  virtual absl::Status Drop(BlockId slot) = 0;

  // The same, and nobody else finds it there any more, as far as it can be reached.
  virtual absl::Status Erase(BlockId slot) { return Drop(slot); }

  // Everything in the store whose prefix is in it, too; drops the rest. Reads records only.
  virtual absl::StatusOr<StoreContent> Scan() = 0;

  // From now on these slots hold these blocks, which others have written under their names. Nothing
  // where blocks have no names. REQUIRES: nobody reads or writes these slots. Any thread.
  virtual void Bind(std::span<const StoredBlock> /*blocks*/) {}
};

}  // namespace sluice
