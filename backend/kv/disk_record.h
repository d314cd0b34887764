// DiskRecord: what the disk says of one slot, as bytes:
//
//   check generation hash parent salt flags path | tokens | checksums per layer | padding
//
// `check` is XXH3-64 over all that follows, seeded with slot and namespace: a record that is torn,
// changed, or of another slot or namespace does not pass. All zero: the slot is empty.
//
// `path` is a keyed digest over the tokens of all blocks from the first one to this one. The key is
// drawn at random when a namespace is made, so nobody can choose prompts whose digests agree, as
// can be done with block hashes. It tells whether a block found on the disk really belongs behind
// the block whose hash it names.
//
// Numbers are as in memory: a namespace belongs to machines of one byte order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "backend/kv/block_store.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"

namespace sluice {

struct DiskRecord {
  int64_t generation = 0;  // of writes to the namespace; > 0, grows
  Hash128 path;            // zero: what comes before it was not on the disk when it was written
  BlockRecord block;
};

class DiskRecordFormat {
 public:
  // `seed`: of the namespace.
  DiskRecordFormat(const StoreShape& shape, uint64_t seed);

  // A multiple of 64.
  int64_t bytes() const { return bytes_; }

  // REQUIRES: out.size() == bytes(); as many tokens and checksums as the shape has.
  void Encode(BlockId slot, const DiskRecord& record, std::span<std::byte> out) const;

  // Returns NOT_FOUND if the slot is empty, DATA_LOSS if the record is no good.
  absl::StatusOr<DiskRecord> Decode(BlockId slot, std::span<const std::byte> in) const;

  // How many bytes at the front, zeroed, make a record an empty one.
  static constexpr int64_t kMark = 16;

 private:
  uint64_t Check(BlockId slot, std::span<const std::byte> bytes) const;

  const size_t tokens_;
  const size_t layers_;
  const uint64_t seed_;
  int64_t bytes_;
};

// The key of path digests; XXH3 takes it as its secret.
using PathKey = std::array<std::byte, 192>;

// The digest of a block behind one with digest `parent` (zero for the first block of a prompt).
Hash128 PathDigest(const PathKey& key, const Hash128& parent, uint64_t salt,
                   std::span<const TokenId> tokens);

}  // namespace sluice
