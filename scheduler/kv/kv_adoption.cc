// What the disk tier has kept over a restart comes back into the index; what a store shared with
// others holds of a prompt comes into it.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "scheduler/base/check.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {
namespace {

constexpr size_t kNone = static_cast<size_t>(-1);

// The blocks that lead, parent by parent, to the first block of a prompt.
class Family {
 public:
  explicit Family(std::span<const StoredBlock> blocks)
      : blocks_(blocks), parent_(blocks.size(), kNone), used_(blocks.size(), kUnknown) {
    newest_.reserve(blocks.size());
    for (size_t i = 0; i < blocks.size(); ++i) newest_[blocks[i].identity.hash] = i;
    for (size_t i = 0; i < blocks.size(); ++i) Settle(i);
  }

  bool Has(size_t i) const { return used_[i] != kOrphan; }
  size_t parent(size_t i) const { return parent_[i]; }

  // Parents before children.
  std::vector<size_t> InOrder() const { return order_; }

  // Of those it has: when it or anything behind it was last written, as a position in the input.
  std::vector<size_t> LastUse() const {
    std::vector<size_t> last(blocks_.size());
    for (size_t i = 0; i < last.size(); ++i) last[i] = i;
    for (auto it = order_.rbegin(); it != order_.rend(); ++it) {
      if (parent_[*it] != kNone) last[parent_[*it]] = std::max(last[parent_[*it]], last[*it]);
    }
    return last;
  }

 private:
  // kOnPath: its ancestors are being looked at.
  enum Use : uint8_t { kUnknown, kOnPath, kOrphan, kUsed };

  // Walks up to an ancestor that is settled, and down again.
  void Settle(size_t i) {
    std::vector<size_t> path;
    Use use = kUsed;
    for (size_t at = i;;) {
      if (used_[at] != kUnknown) {
        use = used_[at] == kUsed ? kUsed : kOrphan;  // kOnPath: a ring
        break;
      }
      const BlockIdentity& identity = blocks_[at].identity;
      used_[at] = kOnPath;
      path.push_back(at);
      const bool newest = newest_.find(identity.hash)->second == at;
      if (newest && identity.first) break;
      const auto parent = newest ? newest_.find(identity.parent) : newest_.end();
      if (parent == newest_.end()) {
        use = kOrphan;
        break;
      }
      parent_[at] = parent->second;
      at = parent->second;
    }
    for (auto it = path.rbegin(); it != path.rend(); ++it) {
      used_[*it] = use;
      if (use == kUsed) order_.push_back(*it);
    }
  }

  const std::span<const StoredBlock> blocks_;
  absl::flat_hash_map<Hash128, size_t, Hash128Hasher> newest_;  // never iterated
  std::vector<size_t> parent_;
  std::vector<Use> used_;
  std::vector<size_t> order_;
};

}  // namespace

// Takes the block's place in the pool from a copy that has just ended.
void KvCache::PlaceOnDisk(NodeId id, BlockId slot) {
  disk_.SetOwner(slot, id);
  index_.node(id).disk = slot;
  Revalue(id);
  Tell(id);
}

std::vector<BlockId> KvCache::Adopt(std::span<const StoredBlock> blocks) {
  std::vector<BlockId> unused;
  if (!options_.prefix_caching) {
    for (const StoredBlock& block : blocks) unused.push_back(block.slot);
    return unused;
  }
  const Family family(blocks);
  std::vector<NodeId> nodes(blocks.size());
  std::vector<BlockId> slots;
  std::vector<size_t> adopted;
  for (const size_t i : family.InOrder()) {
    const StoredBlock& block = blocks[i];
    SLUICE_CHECK(block.slot.valid() && block.slot.value() < disk_.capacity().value());
    const size_t parent = family.parent(i);
    if (parent != kNone && !nodes[parent].valid()) continue;
    const NodeId above = parent == kNone ? NodeId() : nodes[parent];
    const NodeId id =
        index_.FindOrInsert(above, block.identity.salt, block.identity.hash, block.tokens);
    if (!id.valid() || index_.node(id).disk.valid()) continue;
    nodes[i] = id;
    index_.node(id).disk = block.slot;  // keeps the node until all have their places
    slots.push_back(block.slot);
    adopted.push_back(i);
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (!nodes[i].valid()) unused.push_back(blocks[i].slot);
  }
  disk_.TakeForCopy(slots);
  for (const size_t i : adopted) PlaceOnDisk(nodes[i], blocks[i].slot);
  // Into the list of cached blocks, least recently used first; of equals the deepest first.
  const std::vector<size_t> last = family.LastUse();
  std::reverse(adopted.begin(), adopted.end());
  std::stable_sort(adopted.begin(), adopted.end(),
                   [&](size_t a, size_t b) { return last[a] < last[b]; });
  for (const size_t i : adopted) disk_.DropTransit(blocks[i].slot);
  ++room_epoch_;
  ++content_epoch_;
  return unused;
}

BlockId KvCache::TakeSlot() {
  if (disk_.free() == Blocks(0)) {
    if (disk_.cached() == Blocks(0)) return BlockId();
    EvictDisk();
  }
  return disk_.TakeForCopy();
}

// All blocks of the path are held while it is walked: what makes room for one of them must not be
// another. Given back last to first, they are the most recently used ones then.
std::vector<KvCache::FoundBlock> KvCache::AdoptFound(const TokenPath& path, size_t known) {
  std::vector<FoundBlock> placed;
  if (!options_.prefix_caching || disk_.capacity() == Blocks(0)) return placed;
  const size_t width = options_.tokens_per_block.size();
  std::vector<NodeId> held;
  NodeId id;
  for (size_t i = 0; i < path.hashes.size(); ++i) {
    const std::span<const TokenId> tokens = path.tokens.subspan(i * width, width);
    const NodeId above = id;
    id = i < known ? index_.Find(above, path.salt, path.hashes[i], tokens)
                   : index_.FindOrInsert(above, path.salt, path.hashes[i], tokens);
    if (!id.valid() || (i < known && !index_.node(id).HasCopy())) break;
    index_.Pin(id);
    held.push_back(id);
    const BlockId disk = index_.node(id).disk;
    if (disk.valid()) disk_.AddTransit(disk);
    if (disk.valid() || index_.node(id).HasCopy()) continue;
    const BlockId slot = TakeSlot();
    if (!slot.valid()) break;
    PlaceOnDisk(id, slot);
    placed.push_back({i, slot});
  }
  for (auto it = held.rbegin(); it != held.rend(); ++it) {
    if (index_.node(*it).disk.valid()) disk_.DropTransit(index_.node(*it).disk);
    index_.Unpin(*it);
  }
  if (!placed.empty()) ++content_epoch_;
  return placed;
}

}  // namespace sluice
