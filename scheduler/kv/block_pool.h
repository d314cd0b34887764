// BlockPool keeps the books of the fixed set of KV blocks of one tier.
//
// Every block is in exactly one state:
//   free         holds nothing of use; on the free list
//   referenced   used by at least one sequence (a shared prefix has many users)
//   in transit   not referenced, but a copy reads or writes it
//   cached       neither, and owned by a node of the prefix index: can be evicted at once
//
// Invariant: free() + referenced() + in_transit() + cached() == capacity(), after every call.
//
// Cached blocks form two lists by worth, each least recently used first. The victim is the oldest
// block of low worth, unless the oldest of high worth has been left alone kPatience times as long,
// in blocks cached since. With all blocks of one worth, as they start, that is plain LRU. Worth is
// the owner's to set: high for what is dear to lose.
//
// All calls are O(1) except CheckInvariants(). The pool never touches KV bytes and gives the same
// ids in the same order for the same calls.
//
// Thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/kv/residency.h"

namespace sluice {

// A node of the prefix index (scheduler/kv/prefix_index.h).
using NodeId = Id<struct NodeIdTag, int32_t>;

class BlockPool {
 public:
  enum class Worth : uint8_t { kLow, kHigh };
  static constexpr int64_t kPatience = 4;

  // REQUIRES: capacity >= 0.
  explicit BlockPool(Blocks capacity);

  // Takes a free block, which then has one reference / takes part in one copy.
  // REQUIRES: free() > 0.
  BlockId TakeForUse();
  BlockId TakeForCopy();
  // Takes these blocks; each then takes part in one copy. REQUIRES: all are free, none twice.
  // O(free).
  void TakeForCopy(std::span<const BlockId> blocks);

  // The next four add or drop one user or one copy. A block that loses the last of both becomes
  // cached, as the most recently used, if it has an owner, and free otherwise.
  // REQUIRES: `block` is not free.
  void AddReference(BlockId block);
  void DropReference(BlockId block);
  void AddTransit(BlockId block);
  void DropTransit(BlockId block);

  // Says which node the content belongs to, or that it belongs to none any more.
  // REQUIRES: `block` is not free, and has no owner / an owner.
  void SetOwner(BlockId block, NodeId node);
  void ClearOwner(BlockId block);

  // The time from now on, which never goes back: for residency() alone, nothing else depends on it.
  void set_now(absl::Time now) { now_ = now; }

  // Makes a cached block the most recently used; does nothing in other states.
  void Touch(BlockId block);

  // High until set; until the block is free again. A cached block becomes the oldest of its new
  // list: what loses its cheap way back was not used of late; if it was, Touch() it.
  // REQUIRES: `block` is not free.
  void SetWorth(BlockId block, Worth worth);

  // The cached block to evict next; an invalid id if there is none.
  BlockId Oldest() const;

  int32_t references(BlockId block) const { return blocks_[block.index()].references; }
  int32_t transits(BlockId block) const { return blocks_[block.index()].transits; }
  NodeId owner(BlockId block) const { return blocks_[block.index()].owner; }
  Worth worth(BlockId block) const { return blocks_[block.index()].worth; }

  // How long content stayed that has lost its owner, from the call of SetOwner(). Of content that
  // came before the first set_now(): nothing.
  const Residency& residency() const { return residency_; }

  Blocks capacity() const { return Blocks(static_cast<int64_t>(blocks_.size())); }
  Blocks free() const { return count_[kFree]; }
  Blocks referenced() const { return count_[kReferenced]; }
  Blocks in_transit() const { return count_[kInTransit]; }
  Blocks cached() const { return count_[kCached]; }

  // Returns INTERNAL naming the first broken invariant. O(capacity); for tests and when idle.
  absl::Status CheckInvariants() const;

 private:
  enum State : uint8_t { kFree, kReferenced, kInTransit, kCached };

  struct Block {
    int32_t references = 0;
    int32_t transits = 0;
    NodeId owner;
    BlockId older;  // neighbours in its list of cached blocks
    BlockId newer;
    Worth worth = Worth::kHigh;
    int64_t used = 0;  // clock_ when last put at the new end of a list
    absl::Time owned_since = absl::InfinitePast();
  };
  struct List {
    BlockId oldest;
    BlockId newest;
  };

  static State StateOf(const Block& block);
  BlockId Take();
  // Brings lists and counts up to date after a change to `block`, which was in state `before`.
  void Settle(BlockId block, State before);
  List& ListOf(const Block& block) { return lists_[static_cast<size_t>(block.worth)]; }
  void AppendNewest(BlockId block);
  void PrependOldest(BlockId block);
  void Unlink(BlockId block);
  absl::Status CheckList(const List& list, Worth worth, Blocks* listed) const;

  std::vector<Block> blocks_;
  std::vector<BlockId> free_;  // last in, first out: recently used memory is warm
  std::array<List, 2> lists_;  // by worth
  int64_t clock_ = 0;          // blocks put at the new end of a list
  std::array<Blocks, 4> count_{};
  absl::Time now_ = absl::InfinitePast();
  Residency residency_;
};

}  // namespace sluice
