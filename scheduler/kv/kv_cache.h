// KvCache decides where KV lives: it joins the device pool, the host pool, the prefix index and the
// list of copies between the pools. It lists copies; others move the bytes.
//
//   Match ──> Fits ──> Admit ──> Grow … Publish … ──> Release
//                        │                  │
//                        └─ load copies     └─ store copies ──> TakeCopies ··> OnCopyDone
//
// Reservation. Admit() promises a request all device blocks it can ever need and Grow() takes them
// one by one, so KV of others stays cached until its room is really needed. At all times
//   free + cached >= reserved     (device tier)
// hence Grow() cannot fail. Blocks in transit do not count as room. This holds because only Admit()
// makes promises, and a cached block never enters transit: stores begin while their source is
// referenced.
//
// Copies and reuse. A block that a copy reads or writes is never evicted, freed or written before
// OnCopyDone(). A published block is never written again. Hence a copy may run beside any step.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"
#include "scheduler/kv/block_pool.h"
#include "scheduler/kv/prefix_index.h"
#include "scheduler/step.h"

namespace sluice {

struct KvCacheOptions {
  Tokens tokens_per_block{32};
  Blocks device_blocks{0};
  Blocks host_blocks{0};       // 0: no host tier
  Blocks max_store_blocks{0};  // blocks being stored at a time; 0: never store
  bool prefix_caching = true;  // off: nothing is matched, published or stored
};

// Tokens as the index sees them: the tokens of a sequence and the hashes of its full blocks.
struct TokenPath {
  std::span<const TokenId> tokens;
  std::span<const Hash128> hashes;  // of blocks 0, 1, …; at least as many as the call needs
  uint64_t salt = 0;
};

// What the cache holds of a sequence, from its start on. Good until the cache changes.
struct KvMatch {
  std::vector<NodeId> nodes;  // one per block
  Blocks shared;              // of these, on the device and not evictable: they cost no room
  Blocks in_transit;          // of `shared`, those that become evictable when a copy ends
};

// The device blocks of one admitted sequence.
struct KvLease {
  std::vector<BlockId> blocks;  // in token order; does not reallocate before Release()
  Blocks reserved;              // still to be taken by Grow()
  std::vector<CopyId> loads;    // copies that fill some of `blocks`, perhaps under way
  Blocks published;             // blocks [0, published) have been offered to the index
  NodeId tip;                   // node of the last published block; pinned
  bool publishing = true;       // false after a hash collision: later blocks stay private
};

// Where the blocks of an admission came from.
struct KvAdmission {
  Blocks device;  // were on the device
  Blocks host;    // came, or are coming, from the host: by an earlier copy or by `load`
  CopyId load;    // the copy made for this admission; invalid if none
  Blocks loaded;  // its size
};

class KvCache {
 public:
  struct Counters {
    int64_t stores = 0;          // blocks queued for the host
    int64_t stores_skipped = 0;  // blocks not stored: no room, or too many under way
    Blocks device_evictions;
    Blocks host_evictions;
  };

  struct CopyEnd {
    LinkDirection direction = LinkDirection::kHostToDevice;
    bool ok = true;
  };

  explicit KvCache(const KvCacheOptions& options);

  // --- Admission ---

  // Finds the longest run of leading blocks, at most `limit`, that are on the device (or on their
  // way) or on the host.
  void Match(const TokenPath& path, Blocks limit, KvMatch* match);

  // Whether a sequence that needs `total` blocks in all could be admitted now.
  bool Fits(const KvMatch& match, Blocks total) const;

  // How many of `victims`, counted from the front, must be released so that the sequence fits, at
  // the latest when all present copies have ended. nullopt if all of them do not suffice.
  std::optional<size_t> VictimsNeeded(const KvMatch& match, Blocks total,
                                      std::span<const KvLease* const> victims);

  // References the matched blocks, plans one load for those that are on the host only, and
  // reserves the rest. REQUIRES: Fits(match, total); `lease` is empty.
  KvAdmission Admit(const KvMatch& match, Blocks total, RequestId request, KvLease* lease);

  // --- While admitted ---

  // Takes reserved blocks until the lease has `count`. REQUIRES: count within the admitted total.
  void Grow(Blocks count, KvLease* lease);

  // Offers blocks up to `count`, which hold finished KV, to the index and to the host tier.
  // A block whose node has a device copy already stays private to the lease.
  // REQUIRES: count <= blocks held; the path covers them; `lease->loads` is empty.
  void Publish(const TokenPath& path, Blocks count, KvLease* lease);

  // Gives all blocks and the reservation back; what is published stays cached, the sequence's
  // first blocks longest. Tries once more to store published blocks that are not on the host.
  // Returns whether the first `full` blocks are all on the host or on their way to it.
  bool Release(Blocks full, KvLease* lease);

  // --- Copies ---

  bool InFlight(CopyId copy) const { return copies_.contains(copy); }

  // Appends the copies planned since the last call: loads, then stores.
  void TakeCopies(std::vector<Copy>* copies);

  // The end of a copy that TakeCopies() gave out. After a failed load its target blocks belong to
  // no node (holders of leases that list the copy must release them) and the host copies, being
  // suspect, are dropped. After a failed store there is no host copy.
  // REQUIRES: once per copy.
  CopyEnd OnCopyDone(CopyId copy, bool ok);

  // --- Numbers ---

  const BlockPool& device() const { return device_; }
  const BlockPool& host() const { return host_; }
  const PrefixIndex& index() const { return index_; }
  const Counters& counters() const { return counters_; }
  Blocks reserved() const { return reserved_; }
  // Changes whenever a sequence that did not fit may fit.
  int64_t room_epoch() const { return room_epoch_; }

  // Returns INTERNAL naming the first broken invariant. `leases`: all there are.
  // O(blocks + nodes).
  absl::Status CheckInvariants(std::span<const KvLease* const> leases) const;

 private:
  // A planned copy and the nodes it fills (loads) or saves (stores), one per block pair.
  struct CopyRecord {
    LinkDirection direction = LinkDirection::kHostToDevice;
    std::vector<Copy::Pair> blocks;
    std::vector<NodeId> nodes;
  };

  Blocks Available() const { return device_.free() + device_.cached() - reserved_; }
  BlockId TakeReserved(KvLease* lease);
  void EvictOldestDevice();
  void EvictOldestHost();
  CopyId PlanLoad(const KvMatch& match, RequestId request, KvLease* lease);
  void MoveTip(NodeId node, KvLease* lease);
  void TryStore(NodeId id);
  void EndLoad(const CopyRecord& record, bool ok);
  void EndStore(const CopyRecord& record, bool ok);
  absl::Status CheckLeases(std::span<const KvLease* const> leases) const;
  absl::Status CheckNodes() const;
  absl::Status CheckCopies() const;

  const KvCacheOptions options_;
  BlockPool device_;
  BlockPool host_;
  PrefixIndex index_;
  Blocks reserved_;
  std::map<CopyId, CopyRecord> copies_;  // planned or under way
  std::vector<Copy> planned_loads_;
  std::optional<Copy> planned_store_;
  Blocks storing_;  // blocks of stores in `copies_`
  CopyId next_copy_{0};
  int64_t room_epoch_ = 0;
  Counters counters_;
  // Scratch of VictimsNeeded(), per device block, zero between calls.
  std::vector<int32_t> dropped_;
  std::vector<uint8_t> wanted_;
};

}  // namespace sluice
