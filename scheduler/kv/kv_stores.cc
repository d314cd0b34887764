// Stores (device to host) and spills (host to disk).
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {

// ---- Device to host --------------------------------------------------------------------------

bool KvCache::PassesStoreGate(const PrefixIndex::Node& node, StoreReason reason) {
  if (reason == StoreReason::kReturns || node.seen >= options_.min_hits_to_store) return true;
  if (reason == StoreReason::kSeen) ++counters_.stores_gated;
  return false;
}

void KvCache::TryStore(NodeId id, StoreReason reason) {
  if (host_.capacity() == Blocks(0) || options_.max_store_blocks == Blocks(0)) return;
  PrefixIndex::Node& node = index_.node(id);
  if (node.host.valid() || !node.HasDevice() || node.load.valid()) return;
  // A cached block is promised room (see available()): it must not become busy. The node's block
  // can be another than the publisher's, and unreferenced.
  if (device_.references(node.device) == 0 || !PassesStoreGate(node, reason)) return;
  if (storing_ >= options_.max_store_blocks || host_.free() + host_.cached() == Blocks(0)) {
    ++counters_.stores_skipped;
    return;
  }
  QueueStore(id);
}

void KvCache::QueueStore(NodeId id) {
  PrefixIndex::Node& node = index_.node(id);
  if (host_.free() == Blocks(0)) EvictHost();
  const BlockId target = host_.TakeForCopy();
  host_.SetOwner(target, id);
  node.host = target;
  node.host_filling = true;
  node.stored = true;
  device_.AddTransit(node.device);
  AddToBatch(id, {node.device, target}, LinkDirection::kDeviceToHost, &planned_store_);
  storing_ += Blocks(1);
  ++counters_.stores;
}

void KvCache::EndStore(const CopyRecord& record, const std::vector<bool>& good) {
  for (size_t i = record.nodes.size(); i-- > 0;) {
    const NodeId id = record.nodes[i];
    const auto [source, target] = record.blocks[i];
    index_.node(id).host_filling = false;
    if (good[i]) {
      Revalue(id);
      Tell(id);
    } else {
      DropHost(id);
    }
    device_.DropTransit(source);
    host_.DropTransit(target);
  }
  storing_ -= Blocks(static_cast<int64_t>(record.nodes.size()));
  for (size_t i = 0; i < record.nodes.size(); ++i) {
    if (good[i]) QueueSpill(record.nodes[i]);
  }
}

// ---- Host to disk ----------------------------------------------------------------------------

void KvCache::QueueSpill(NodeId id) {
  if (disk_.capacity() == Blocks(0) || options_.max_spill_blocks == Blocks(0)) return;
  PrefixIndex::Node& node = index_.node(id);
  if (!node.HostReady() || node.disk.valid() || node.spill_queued) return;
  if (node.seen < options_.min_hits_to_spill) return;
  if (spill_queue_.size() >= host_.capacity().size()) {
    const SpillCandidate oldest = spill_queue_.front();
    spill_queue_.pop_front();
    if (index_.live(oldest.node)) index_.node(oldest.node).spill_queued = false;
    counters_.spills_skipped += Blocks(1);
  }
  node.spill_queued = true;
  spill_queue_.push_back({id, node.host});
}

void KvCache::PlanSpills() {
  while (spilling_allowed_ && !spill_queue_.empty() && spilling_ < options_.max_spill_blocks) {
    const SpillCandidate candidate = spill_queue_.front();
    spill_queue_.pop_front();
    if (!index_.live(candidate.node)) continue;
    PrefixIndex::Node& node = index_.node(candidate.node);
    node.spill_queued = false;
    // The node may stand for another block by now, or its block be stored again: all the same.
    if (!node.HostReady() || node.host != candidate.host || node.disk.valid()) continue;
    if (!TrySpill(candidate.node)) counters_.spills_skipped += Blocks(1);
  }
}

bool KvCache::TrySpill(NodeId id) {
  if (disk_.free() + disk_.cached() == Blocks(0)) return false;
  PrefixIndex::Node& node = index_.node(id);
  if (disk_.free() == Blocks(0)) EvictDisk();
  const BlockId target = disk_.TakeForCopy();
  disk_.SetOwner(target, id);
  node.disk = target;
  node.disk_filling = true;
  host_.AddTransit(node.host);
  Revalue(id);
  AddToBatch(id, {node.host, target}, LinkDirection::kHostToDisk, &planned_spill_);
  Copy& copy = planned_spill_->copy;
  const std::span<const TokenId> tokens = index_.tokens(id);
  copy.identities.push_back(index_.identity(id));
  copy.tokens.insert(copy.tokens.end(), tokens.begin(), tokens.end());
  spilling_ += Blocks(1);
  counters_.spills += Blocks(1);
  return true;
}

void KvCache::EndSpill(const CopyRecord& record, const std::vector<bool>& good) {
  for (size_t i = record.nodes.size(); i-- > 0;) {
    const NodeId id = record.nodes[i];
    const auto [source, target] = record.blocks[i];
    index_.node(id).disk_filling = false;
    if (good[i]) {
      Revalue(id);
      Tell(id);
    } else {
      DropDisk(id);
    }
    host_.DropTransit(source);
    disk_.DropTransit(target);
    index_.RemoveIfUnused(id);  // a failed load may have cost it the host copy meanwhile
  }
  spilling_ -= Blocks(static_cast<int64_t>(record.nodes.size()));
}

Blocks KvCache::spills_pending() const {
  const bool spills = disk_.capacity() > Blocks(0) && options_.max_spill_blocks > Blocks(0);
  if (!spills || !spilling_allowed_) return Blocks(0);
  return storing_ + spilling_ + Blocks(static_cast<int64_t>(spill_queue_.size()));
}

}  // namespace sluice
