// What leaves a tier, and what a copy is worth.
//
// With EvictionOrder::kValue, of low worth are: on the host, blocks with a copy on the disk and
// blocks seen only once; on the disk, blocks seen only once. BlockPool evicts them first, unless
// they were used much more recently. On the device all are worth the same: to evict blocks with a
// copy on the host first tears holes into prefixes of which only the front has been stored.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {
namespace {

BlockPool::Worth High(bool high) { return high ? BlockPool::Worth::kHigh : BlockPool::Worth::kLow; }

}  // namespace

void KvCache::EvictDevice() {
  const BlockId block = device_.Oldest();
  SLUICE_CHECK(block.valid());
  const NodeId id = device_.owner(block);
  DropDevice(id);
  index_.RemoveIfUnused(id);
  counters_.device_evictions += Blocks(1);
}

void KvCache::EvictHost() {
  const BlockId block = host_.Oldest();
  SLUICE_CHECK(block.valid());
  const NodeId id = host_.owner(block);
  if (index_.node(id).stored) NoteStoreOutcome(/*used=*/false);
  DropHost(id);
  index_.RemoveIfUnused(id);
  counters_.host_evictions += Blocks(1);
}

void KvCache::EvictDisk() {
  const BlockId block = disk_.Oldest();
  SLUICE_CHECK(block.valid());
  const NodeId id = disk_.owner(block);
  DropDisk(id);
  index_.RemoveIfUnused(id);
  counters_.disk_evictions += Blocks(1);
}

void KvCache::DropDevice(NodeId id) {
  Unpin(id, Tier::kDevice);
  PrefixIndex::Node& node = index_.node(id);
  device_.ClearOwner(node.device);
  node.device = BlockId();
  node.load = CopyId();
  node.prefetched = false;
  Tell(id);
}

void KvCache::DropHost(NodeId id) {
  Unpin(id, Tier::kHost);
  PrefixIndex::Node& node = index_.node(id);
  host_.ClearOwner(node.host);
  node.host = BlockId();
  node.host_filling = false;
  node.stored = false;
  node.staged = false;
  Revalue(id);
  Tell(id);
}

void KvCache::DropDisk(NodeId id) {
  PrefixIndex::Node& node = index_.node(id);
  disk_.ClearOwner(node.disk);
  node.disk = BlockId();
  node.disk_filling = false;
  Revalue(id);
  Tell(id);
}

void KvCache::See(NodeId id) {
  PrefixIndex::Node& node = index_.node(id);
  const bool gated = std::max(options_.min_hits_to_store, options_.min_hits_to_spill) > 1;
  const int seen = gated ? sightings_.Add(index_.hash(id)) : std::min(node.seen + 1, 255);
  node.seen = static_cast<uint8_t>(seen);
  Revalue(id);
  QueueSpill(id);
}

void KvCache::Revalue(NodeId id) {
  if (options_.eviction != EvictionOrder::kValue) return;
  const PrefixIndex::Node& node = index_.node(id);
  const bool again = node.seen > 1;
  if (node.host.valid()) host_.SetWorth(node.host, High(again && !node.DiskReady()));
  if (node.disk.valid()) disk_.SetWorth(node.disk, High(again));
}

void KvCache::NoteStoreOutcome(bool used) {
  constexpr double kRate = 1.0 / 1024;  // blocks; a long prompt has some thousands
  if (used) counters_.stores_reused += Blocks(1);
  store_reuse_ += kRate * ((used ? 1.0 : 0.0) - store_reuse_);
}

// ---- Events ----------------------------------------------------------------------------------

void KvCache::Tell(NodeId id) {
  if (!options_.events) return;
  PrefixIndex::Node& node = index_.node(id);
  const bool here = node.IsHere();
  if (here == node.told) return;
  node.told = here;
  if (here) return AddStored(id, &events_);
  events_.AddRemoved(index_.hash(id).low, index_.salt(id));
}

void KvCache::AddStored(NodeId id, KvEvents* events) const {
  const NodeId parent = index_.parent(id);
  const auto before =
      parent.valid() ? std::optional<uint64_t>(index_.hash(parent).low) : std::nullopt;
  events->AddStored(index_.hash(id).low, before, index_.salt(id), index_.tokens(id));
}

KvEvents KvCache::TakeEvents() {
  return std::exchange(events_, KvEvents(options_.tokens_per_block));
}

KvEvents KvCache::ListBlocks() const {
  SLUICE_CHECK(events_.empty());
  KvEvents events(options_.tokens_per_block);
  events.Reserve(index_.size().size());
  for (int32_t i = 0; i < index_.end(); ++i) {
    const NodeId id(i);
    if (index_.live(id) && index_.node(id).IsHere()) AddStored(id, &events);
  }
  return events;
}

}  // namespace sluice
