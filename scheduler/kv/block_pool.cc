#include "scheduler/kv/block_pool.h"

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

namespace sluice {

BlockPool::BlockPool(Blocks capacity) {
  SLUICE_CHECK(capacity >= Blocks(0));
  blocks_.resize(capacity.size());
  free_.reserve(capacity.size());
  for (int64_t i = capacity.value() - 1; i >= 0; --i) {
    free_.push_back(BlockId(static_cast<int32_t>(i)));
  }
  count_[kFree] = capacity;
}

BlockPool::State BlockPool::StateOf(const Block& block) {
  if (block.references > 0) return kReferenced;
  if (block.transits > 0) return kInTransit;
  return block.owner.valid() ? kCached : kFree;
}

BlockId BlockPool::Take() {
  SLUICE_CHECK(!free_.empty());
  const BlockId block = free_.back();
  free_.pop_back();
  count_[kFree] -= Blocks(1);
  return block;
}

BlockId BlockPool::TakeForUse() {
  const BlockId block = Take();
  blocks_[block.index()].references = 1;
  count_[kReferenced] += Blocks(1);
  return block;
}

BlockId BlockPool::TakeForCopy() {
  const BlockId block = Take();
  blocks_[block.index()].transits = 1;
  count_[kInTransit] += Blocks(1);
  return block;
}

void BlockPool::AddReference(BlockId block) {
  const State before = StateOf(blocks_[block.index()]);
  ++blocks_[block.index()].references;
  Settle(block, before);
}

void BlockPool::DropReference(BlockId block) {
  const State before = StateOf(blocks_[block.index()]);
  SLUICE_CHECK(blocks_[block.index()].references > 0);
  --blocks_[block.index()].references;
  Settle(block, before);
}

void BlockPool::AddTransit(BlockId block) {
  const State before = StateOf(blocks_[block.index()]);
  ++blocks_[block.index()].transits;
  Settle(block, before);
}

void BlockPool::DropTransit(BlockId block) {
  const State before = StateOf(blocks_[block.index()]);
  SLUICE_CHECK(blocks_[block.index()].transits > 0);
  --blocks_[block.index()].transits;
  Settle(block, before);
}

void BlockPool::SetOwner(BlockId block, NodeId node) {
  const State before = StateOf(blocks_[block.index()]);
  SLUICE_CHECK(node.valid() && !blocks_[block.index()].owner.valid());
  blocks_[block.index()].owner = node;
  Settle(block, before);
}

void BlockPool::ClearOwner(BlockId block) {
  const State before = StateOf(blocks_[block.index()]);
  SLUICE_CHECK(blocks_[block.index()].owner.valid());
  blocks_[block.index()].owner = NodeId();
  Settle(block, before);
}

void BlockPool::Touch(BlockId block) {
  if (StateOf(blocks_[block.index()]) != kCached) return;
  Unlink(block);
  AppendNewest(block);
}

void BlockPool::Settle(BlockId block, State before) {
  SLUICE_CHECK(before != kFree);
  const State after = StateOf(blocks_[block.index()]);
  if (after == before) return;
  count_[before] -= Blocks(1);
  count_[after] += Blocks(1);
  if (before == kCached) Unlink(block);
  if (after == kCached) AppendNewest(block);
  if (after == kFree) free_.push_back(block);
}

void BlockPool::AppendNewest(BlockId block) {
  Block& b = blocks_[block.index()];
  b.older = newest_;
  b.newer = BlockId();
  if (newest_.valid()) blocks_[newest_.index()].newer = block;
  newest_ = block;
  if (!oldest_.valid()) oldest_ = block;
}

void BlockPool::Unlink(BlockId block) {
  Block& b = blocks_[block.index()];
  (b.older.valid() ? blocks_[b.older.index()].newer : oldest_) = b.newer;
  (b.newer.valid() ? blocks_[b.newer.index()].older : newest_) = b.older;
  b.older = BlockId();
  b.newer = BlockId();
}

absl::Status BlockPool::CheckInvariants() const {
  std::array<Blocks, 4> seen{};
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].references < 0 || blocks_[i].transits < 0) {
      return absl::InternalError(absl::StrCat("block pool: block ", i, " has a negative count"));
    }
    seen[StateOf(blocks_[i])] += Blocks(1);
  }
  for (size_t state = 0; state < seen.size(); ++state) {
    if (seen[state] != count_[state]) {
      return absl::InternalError(absl::StrCat("block pool: ", seen[state].value(),
                                              " blocks in state ", state, ", counted ",
                                              count_[state].value()));
    }
  }
  if (free_.size() != count_[kFree].size()) {
    return absl::InternalError("block pool: free list and count differ");
  }
  for (const BlockId block : free_) {
    if (StateOf(blocks_[block.index()]) != kFree) {
      return absl::InternalError(
          absl::StrCat("block pool: block ", block.value(), " in use is listed as free"));
    }
  }
  Blocks listed;
  BlockId previous;
  for (BlockId b = oldest_; b.valid(); b = blocks_[b.index()].newer) {
    if (StateOf(blocks_[b.index()]) != kCached || blocks_[b.index()].older != previous ||
        listed > count_[kCached]) {
      return absl::InternalError("block pool: the list of cached blocks is broken");
    }
    listed += Blocks(1);
    previous = b;
  }
  if (listed != count_[kCached] || previous != newest_) {
    return absl::InternalError("block pool: the list of cached blocks has the wrong length");
  }
  return absl::OkStatus();
}

}  // namespace sluice
