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

void BlockPool::TakeForCopy(std::span<const BlockId> blocks) {
  for (const BlockId block : blocks) {
    SLUICE_CHECK(StateOf(blocks_[block.index()]) == kFree);
    blocks_[block.index()].transits = 1;
  }
  std::erase_if(free_, [this](BlockId block) { return blocks_[block.index()].transits > 0; });
  const Blocks count(static_cast<int64_t>(blocks.size()));
  count_[kFree] -= count;
  count_[kInTransit] += count;
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
  blocks_[block.index()].owned_since = now_;
  Settle(block, before);
}

void BlockPool::ClearOwner(BlockId block) {
  const State before = StateOf(blocks_[block.index()]);
  SLUICE_CHECK(blocks_[block.index()].owner.valid());
  blocks_[block.index()].owner = NodeId();
  const absl::Time since = blocks_[block.index()].owned_since;
  if (since != absl::InfinitePast()) residency_.Add(absl::ToDoubleSeconds(now_ - since));
  Settle(block, before);
}

void BlockPool::Touch(BlockId block) {
  if (StateOf(blocks_[block.index()]) != kCached) return;
  Unlink(block);
  AppendNewest(block);
}

void BlockPool::SetWorth(BlockId block, Worth worth) {
  Block& b = blocks_[block.index()];
  if (b.worth == worth) return;
  const State state = StateOf(b);
  SLUICE_CHECK(state != kFree);
  if (state == kCached) Unlink(block);
  b.worth = worth;
  if (state == kCached) PrependOldest(block);
}

BlockId BlockPool::Oldest() const {
  const BlockId low = lists_[static_cast<size_t>(Worth::kLow)].oldest;
  const BlockId high = lists_[static_cast<size_t>(Worth::kHigh)].oldest;
  if (!low.valid() || !high.valid()) return low.valid() ? low : high;
  const int64_t low_age = clock_ - blocks_[low.index()].used + 1;
  const int64_t high_age = clock_ - blocks_[high.index()].used + 1;
  return high_age > kPatience * low_age ? high : low;
}

void BlockPool::Settle(BlockId block, State before) {
  SLUICE_CHECK(before != kFree);
  const State after = StateOf(blocks_[block.index()]);
  if (after == before) return;
  count_[before] -= Blocks(1);
  count_[after] += Blocks(1);
  if (before == kCached) Unlink(block);
  if (after == kCached) AppendNewest(block);
  if (after != kFree) return;
  blocks_[block.index()].worth = Worth::kHigh;
  free_.push_back(block);
}

void BlockPool::AppendNewest(BlockId block) {
  Block& b = blocks_[block.index()];
  List& list = ListOf(b);
  b.used = ++clock_;
  b.older = list.newest;
  b.newer = BlockId();
  (list.newest.valid() ? blocks_[list.newest.index()].newer : list.oldest) = block;
  list.newest = block;
}

void BlockPool::PrependOldest(BlockId block) {
  Block& b = blocks_[block.index()];
  List& list = ListOf(b);
  b.older = BlockId();
  b.newer = list.oldest;
  (list.oldest.valid() ? blocks_[list.oldest.index()].older : list.newest) = block;
  list.oldest = block;
}

void BlockPool::Unlink(BlockId block) {
  Block& b = blocks_[block.index()];
  List& list = ListOf(b);
  (b.older.valid() ? blocks_[b.older.index()].newer : list.oldest) = b.newer;
  (b.newer.valid() ? blocks_[b.newer.index()].older : list.newest) = b.older;
  b.older = BlockId();
  b.newer = BlockId();
}

absl::Status BlockPool::CheckList(const List& list, Worth worth, Blocks* listed) const {
  BlockId previous;
  for (BlockId id = list.oldest; id.valid(); id = blocks_[id.index()].newer) {
    const Block& b = blocks_[id.index()];
    if (StateOf(b) != kCached || b.worth != worth || b.older != previous ||
        *listed > count_[kCached]) {
      return absl::InternalError("block pool: the list of cached blocks is broken");
    }
    *listed += Blocks(1);
    previous = id;
  }
  if (previous != list.newest) {
    return absl::InternalError("block pool: the list of cached blocks has another end");
  }
  return absl::OkStatus();
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
  for (const Worth worth : {Worth::kLow, Worth::kHigh}) {
    const absl::Status status = CheckList(lists_[static_cast<size_t>(worth)], worth, &listed);
    if (!status.ok()) return status;
  }
  if (listed != count_[kCached]) {
    return absl::InternalError("block pool: the list of cached blocks has the wrong length");
  }
  return absl::OkStatus();
}

}  // namespace sluice
