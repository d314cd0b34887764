// What people ask of the cache: pins, stores ahead of need, evictions.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {

// ---- Pins ------------------------------------------------------------------------------------

Blocks KvCache::PinLimit(Tier tier) const {
  const double most = AsDouble(PoolOf(tier).capacity()) * options_.max_pinned_share;
  return Blocks(static_cast<int64_t>(most));
}

Blocks KvCache::PinsWanted(const KvMatch& match, Tier tier, Blocks all) const {
  const Pins& pins = PinsOf(tier);
  Blocks wanted = all;
  for (const NodeId id : match.nodes) {
    if (pins.Has(id)) wanted -= Blocks(1);
  }
  return wanted;
}

Blocks KvCache::Pin(const KvMatch& match, Tier tier, absl::Time until) {
  Pins& pins = PinsOf(tier);
  BlockPool& pool = PoolOf(tier);
  const Blocks limit = PinLimit(tier);
  Blocks pinned;
  const Blocks before = pins.size();
  for (const NodeId id : match.nodes) {
    const BlockId block = BlockOn(id, tier);
    if (!block.valid()) continue;
    if (!pins.Has(id)) {
      // A cached block of the device may have been promised to somebody.
      const bool cached = pool.references(block) == 0 && pool.transits(block) == 0;
      const bool room = tier != Tier::kDevice || !cached || available() > Blocks(0);
      if (pins.size() >= limit || !room) continue;
      pool.AddReference(block);
    }
    pins.Add(id, until);
    pinned += Blocks(1);
  }
  if (pins.size() != before) {  // what others need, and what there is, has changed
    ++room_epoch_;
    ++content_epoch_;
  }
  return pinned;
}

void KvCache::Unpin(NodeId id, Tier tier) {
  if (!PinsOf(tier).Remove(id)) return;
  PoolOf(tier).DropReference(BlockOn(id, tier));
  ++room_epoch_;
  ++content_epoch_;
}

void KvCache::ExpirePins(absl::Time now) {
  for (const Tier tier : {Tier::kDevice, Tier::kHost}) {
    Pins& pins = PinsOf(tier);
    for (auto first = pins.First(); first.has_value() && first->until <= now;
         first = pins.First()) {
      Unpin(first->node, tier);
    }
  }
}

absl::Time KvCache::NextPinEnd() const {
  absl::Time next = absl::InfiniteFuture();
  for (const Pins& pins : pins_) {
    if (const auto first = pins.First(); first.has_value()) next = std::min(next, first->until);
  }
  return next;
}

Blocks KvCache::PinnedInUse(const KvMatch& match) const {
  Blocks count;
  for (size_t i = 0; i < match.usable.size(); ++i) {
    if (PinsOf(Tier::kDevice).Has(match.nodes[i])) count += Blocks(1);
  }
  return count;
}

Blocks KvCache::YieldPins(Blocks count, const KvMatch& spare) {
  const std::vector<NodeId>& nodes = spare.nodes;
  std::vector<NodeId> victims;
  for (const auto& [until, id] : PinsOf(Tier::kDevice).by_end()) {
    if (victims.size() >= count.size()) break;
    if (std::find(nodes.begin(), nodes.end(), id) == nodes.end()) victims.push_back(id);
  }
  for (const NodeId id : victims) Unpin(id, Tier::kDevice);
  const Blocks yielded(static_cast<int64_t>(victims.size()));
  counters_.pins_yielded += yielded;
  return yielded;
}

// Somebody wants a load if one of its blocks is pinned.
bool KvCache::PinnedLoad(const CopyRecord& record) const {
  const Pins& pins = PinsOf(Tier::kDevice);
  return !pins.empty() && std::any_of(record.nodes.begin(), record.nodes.end(),
                                      [&pins](NodeId id) { return pins.Has(id); });
}

// ---- Moves -----------------------------------------------------------------------------------

bool KvCache::Moving(const KvMatch& match) const {
  return std::any_of(match.nodes.begin(), match.nodes.end(), [this](NodeId id) {
    const PrefixIndex::Node& node = index_.node(id);
    return node.load.valid() || node.host_filling;
  });
}

Blocks KvCache::StoreAhead(const KvMatch& match) {
  if (host_.capacity() == Blocks(0)) return Blocks(0);
  std::vector<BlockId> held;  // nothing of the match is evicted for the rest of it
  for (const NodeId id : match.nodes) {
    if (!index_.node(id).host.valid()) continue;
    held.push_back(index_.node(id).host);
    host_.AddReference(held.back());
  }
  Blocks stored;
  for (const NodeId id : match.nodes) {
    const PrefixIndex::Node& node = index_.node(id);
    if (!node.HasDevice() || node.load.valid() || node.host.valid()) continue;
    if (storing_ >= options_.max_store_blocks || host_.free() + host_.cached() == Blocks(0)) break;
    // A cached block may have been promised to somebody: see available().
    const bool cached = device_.references(node.device) == 0 && device_.transits(node.device) == 0;
    if (cached && available() == Blocks(0)) break;
    QueueStore(id);
    stored += Blocks(1);
  }
  for (auto it = held.rbegin(); it != held.rend(); ++it) host_.DropReference(*it);
  return stored;
}

// ---- Evictions -------------------------------------------------------------------------------

void KvCache::EvictFrom(NodeId id, Tier tier, bool pinned, KvEviction* result) {
  const BlockId block = BlockOn(id, tier);
  if (!block.valid()) return;
  KvEviction::Count& count = result->tiers[static_cast<size_t>(tier)];
  if (tier != Tier::kDisk && PinsOf(tier).Has(id)) {
    if (!pinned) {
      count.pinned += Blocks(1);
      return;
    }
    Unpin(id, tier);
  }
  const BlockPool& pool = PoolOf(tier);
  if (pool.references(block) > 0 || pool.transits(block) > 0) {
    count.in_use += Blocks(1);
    return;
  }
  count.dropped += Blocks(1);
  if (tier == Tier::kDevice) {
    DropDevice(id);
  } else if (tier == Tier::kHost) {
    if (index_.node(id).stored) NoteStoreOutcome(/*used=*/false);
    DropHost(id);
  } else {
    result->disk_slots.push_back(block);
    DropDisk(id);
  }
}

KvEviction KvCache::Evict(std::span<const NodeId> nodes, const KvEvictionOptions& options) {
  KvEviction result;
  for (const NodeId id : nodes) {
    for (const Tier tier : {Tier::kDevice, Tier::kHost, Tier::kDisk}) {
      if (!options.tiers[static_cast<size_t>(tier)]) continue;
      EvictFrom(id, tier, options.pinned, &result);
    }
  }
  // Only now: removing one node may remove those before it.
  for (const NodeId id : nodes) {
    if (index_.live(id)) index_.RemoveIfUnused(id);
  }
  for (const KvEviction::Count& count : result.tiers) counters_.evicted_on_request += count.dropped;
  ++room_epoch_;
  ++content_epoch_;
  return result;
}

std::vector<NodeId> KvCache::NodesWith(std::optional<uint64_t> salt) const {
  std::vector<NodeId> nodes;
  for (int32_t i = 0; i < index_.end(); ++i) {
    const NodeId id(i);
    if (index_.live(id) && (!salt.has_value() || index_.salt(id) == *salt)) nodes.push_back(id);
  }
  return nodes;
}

std::vector<NodeId> KvCache::NodesBehind(NodeId ancestor) const {
  enum Kin : uint8_t { kUnknown, kNo, kYes };
  std::vector<uint8_t> kin(static_cast<size_t>(index_.end()), kUnknown);
  kin[ancestor.index()] = kYes;
  std::vector<NodeId> nodes;
  std::vector<NodeId> way;
  for (int32_t i = 0; i < index_.end(); ++i) {
    if (!index_.live(NodeId(i))) continue;
    way.clear();
    NodeId at(i);
    while (at.valid() && kin[at.index()] == kUnknown) {
      way.push_back(at);
      at = index_.parent(at);
    }
    const uint8_t known = at.valid() ? kin[at.index()] : static_cast<uint8_t>(kNo);
    for (const NodeId id : way) {
      kin[id.index()] = known;
      if (known == kYes) nodes.push_back(id);
    }
  }
  return nodes;
}

KvEviction KvCache::EvictPrompt(const TokenPath& path, Blocks count,
                                const KvEvictionOptions& options) {
  const size_t width = options_.tokens_per_block.size();
  std::vector<NodeId> way;
  while (way.size() < count.size()) {
    const size_t i = way.size();
    const NodeId id = index_.Find(way.empty() ? NodeId() : way.back(), path.salt, path.hashes[i],
                                  path.tokens.subspan(i * width, width));
    if (!id.valid()) break;
    way.push_back(id);
  }
  if (way.empty()) return {};
  // What continues the prompt is of no use without it; what continues only a part of it is
  // somebody else's, and so is that part.
  std::vector<NodeId> nodes;
  if (way.size() == count.size()) nodes = NodesBehind(way.back());
  size_t shared = way.size() - (way.size() == count.size() ? 1 : 0);
  if (way.size() == count.size()) nodes.push_back(way.back());
  while (shared > 0 && index_.children(way[shared - 1]) <= (shared < way.size() ? 1 : 0)) {
    nodes.push_back(way[--shared]);
  }
  KvEviction result = Evict(nodes, options);
  result.shared = Blocks(static_cast<int64_t>(shared));
  return result;
}

}  // namespace sluice
