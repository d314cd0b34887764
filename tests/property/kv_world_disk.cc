// KvWorld: what concerns the disk alone: names of blocks, copies that fail in part, restarts.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "tests/property/content.h"
#include "tests/property/kv_world.h"

namespace sluice::testing {
namespace {

bool IsDisk(LinkDirection direction) {
  return direction == LinkDirection::kDiskToHost || direction == LinkDirection::kHostToDisk;
}

}  // namespace

// What right KV of a node would stand for, from its tokens and those of its ancestors.
uint64_t KvWorld::ContentOf(NodeId id) const {
  const PrefixIndex& index = cache_.index();
  const NodeId parent = index.parent(id);
  uint64_t content = parent.valid() ? ContentOf(parent) : MixContent(77, index.identity(id).salt);
  for (const TokenId token : index.tokens(id)) {
    content = MixContent(content, static_cast<uint64_t>(token) + 1);
  }
  return content;
}

void KvWorld::CheckIdentities(const Copy& copy, const std::vector<uint64_t>& sources) {
  if (!IsDisk(copy.direction)) {
    if (!copy.identities.empty() || !copy.tokens.empty()) Fail("a copy in memory carries names");
    return;
  }
  const bool spill = copy.direction == LinkDirection::kHostToDisk;
  if (copy.identities.size() != copy.blocks.size()) return Fail("a block has no name");
  if (copy.tokens.size() != (spill ? copy.blocks.size() * width_ : 0)) {
    return Fail("tokens are missing, or there for nothing");
  }
  for (size_t i = 0; i < copy.blocks.size(); ++i) {
    const auto& [source, target] = copy.blocks[i];
    const NodeId id = cache_.disk().owner(spill ? target : source);
    if (!id.valid()) return Fail("a copy of a block that is nobody's");
    if (copy.identities[i] != cache_.index().identity(id)) Fail("a copy carries another name");
    if (sources[i] != ContentOf(id)) Fail("a copy carries the name of other KV");
    const auto tokens = cache_.index().tokens(id);
    const auto begin = copy.tokens.begin() + static_cast<std::ptrdiff_t>(spill ? i * width_ : 0);
    if (spill && !std::equal(tokens.begin(), tokens.end(), begin)) {
      Fail("a copy carries other tokens");
    }
  }
}

std::vector<int32_t> KvWorld::ArriveInPart(const CopyUnderWay& c) {
  std::vector<int32_t> failed;
  if (!IsDisk(c.copy.direction) || Chance(0.5)) return failed;
  for (size_t i = 0; i < c.copy.blocks.size(); ++i) {
    if (Chance(0.5)) failed.push_back(static_cast<int32_t>(i));
  }
  if (failed.empty()) return failed;  // then nothing has arrived
  if (failed.size() < c.copy.blocks.size()) ++coverage_.partial;
  for (size_t i = 0; i < c.copy.blocks.size(); ++i) {
    if (std::count(failed.begin(), failed.end(), static_cast<int32_t>(i)) > 0) continue;
    (*TargetPool(c.copy.direction))[c.copy.blocks[i].target.index()] = c.sources[i];
  }
  return failed;
}

void KvWorld::AdoptFrom(const KvWorld& before, double share) {
  const PrefixIndex& index = before.cache_.index();
  std::vector<StoredBlock> blocks;
  std::map<BlockId, uint64_t> content;
  for (int32_t i = 0; i < index.end(); ++i) {
    const NodeId id(i);
    if (!index.live(id) || !index.node(id).DiskReady() || !Chance(share)) continue;
    const BlockId slot = index.node(id).disk;
    blocks.push_back({slot, index.identity(id), index.tokens(id)});
    content[slot] = before.ContentOf(id);
    disk_[slot.index()] = before.disk_[slot.index()];
    if (disk_[slot.index()] != content[slot]) Fail("the disk held other KV than it should");
  }
  std::shuffle(blocks.begin(), blocks.end(), rng_);  // of any age
  // One that is its own parent, and one whose parent never was.
  for (StoredBlock& block : blocks) {
    if (block.identity.first || !Chance(0.02)) continue;
    block.identity.parent = Chance(0.5) ? block.identity.hash : Hash128{rng_(), rng_()};
  }
  const std::vector<BlockId> unused = cache_.Adopt(blocks);
  for (const BlockId slot : unused) {
    if (content.erase(slot) != 1) Fail("a slot is given back that was not there");
    disk_[slot.index()] = kGarbage;
  }
  for (const auto& [slot, want] : content) {
    const NodeId id = cache_.disk().owner(slot);
    if (!id.valid() || ContentOf(id) != want) Fail("a block was adopted as another");
  }
  coverage_.adopted += static_cast<int64_t>(content.size());
  coverage_.not_adopted += static_cast<int64_t>(unused.size());
  if (cache_.disk().cached() != Blocks(static_cast<int64_t>(content.size()))) {
    Fail("blocks were adopted that nobody can evict");
  }
  history_ = before.history_;
  for (const Prompt& prompt : history_) prompt.known.clear();  // of another cache
  AfterCall();
}

}  // namespace sluice::testing
