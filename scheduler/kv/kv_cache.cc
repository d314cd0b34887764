#include "scheduler/kv/kv_cache.h"

#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"

namespace sluice {

KvCache::KvCache(const KvCacheOptions& options)
    : options_(options),
      device_(options.device_blocks),
      host_(options.host_blocks),
      index_(options.tokens_per_block, options.device_blocks + options.host_blocks),
      dropped_(options.device_blocks.size(), 0),
      wanted_(options.device_blocks.size(), 0) {}

// ---- Admission ------------------------------------------------------------------------------

void KvCache::Match(const TokenPath& path, Blocks limit, KvMatch* match) {
  match->nodes.clear();
  match->shared = Blocks(0);
  match->in_transit = Blocks(0);
  if (!options_.prefix_caching) return;
  SLUICE_CHECK(limit.size() <= path.hashes.size());
  const size_t width = options_.tokens_per_block.size();
  NodeId id;
  for (size_t i = 0; i < limit.size(); ++i) {
    id = index_.Find(id, path.salt, path.hashes[i], path.tokens.subspan(i * width, width));
    if (!id.valid()) break;
    const PrefixIndex::Node& node = index_.node(id);
    if (node.HasDevice()) {
      const bool used = device_.references(node.device) > 0;
      const bool moving = device_.transits(node.device) > 0;
      if (used || moving) match->shared += Blocks(1);
      if (!used && moving) match->in_transit += Blocks(1);
    } else if (!node.HostReady()) {
      break;
    }
    match->nodes.push_back(id);
  }
}

bool KvCache::Fits(const KvMatch& match, Blocks total) const {
  return total - match.shared <= Available();
}

std::optional<size_t> KvCache::VictimsNeeded(const KvMatch& match, Blocks total,
                                             std::span<const KvLease* const> victims) {
  // Once copies have ended, what is in transit is room, but no longer free of charge to a match.
  Blocks lacking = (total - match.shared + match.in_transit) - (Available() + device_.in_transit());
  for (const NodeId id : match.nodes) {
    const PrefixIndex::Node& node = index_.node(id);
    if (node.HasDevice()) wanted_[node.device.index()] = 1;
  }
  size_t released = 0;
  while (lacking > Blocks(0) && released < victims.size()) {
    const KvLease& victim = *victims[released++];
    lacking -= victim.reserved;
    for (const BlockId block : victim.blocks) {
      const bool last = ++dropped_[block.index()] == device_.references(block);
      // A block the match wants gives room and takes it again.
      if (last && wanted_[block.index()] == 0) lacking -= Blocks(1);
    }
  }
  for (size_t i = 0; i < released; ++i) {
    for (const BlockId block : victims[i]->blocks) dropped_[block.index()] = 0;
  }
  for (const NodeId id : match.nodes) {
    const PrefixIndex::Node& node = index_.node(id);
    if (node.HasDevice()) wanted_[node.device.index()] = 0;
  }
  if (lacking > Blocks(0)) return std::nullopt;
  return released;
}

KvAdmission KvCache::Admit(const KvMatch& match, Blocks total, RequestId request, KvLease* lease) {
  SLUICE_CHECK(Fits(match, total));
  SLUICE_CHECK(lease->blocks.empty() && lease->reserved == Blocks(0) && !lease->tip.valid());
  KvAdmission admission;
  // Hold everything matched before the first eviction.
  Blocks on_device;
  for (const NodeId id : match.nodes) {
    const PrefixIndex::Node& node = index_.node(id);
    if (!node.HasDevice()) {
      host_.AddTransit(node.host);
      continue;
    }
    device_.AddReference(node.device);
    on_device += Blocks(1);
    if (!node.load.valid()) continue;
    admission.host += Blocks(1);
    if (std::find(lease->loads.begin(), lease->loads.end(), node.load) == lease->loads.end()) {
      lease->loads.push_back(node.load);
    }
  }
  admission.device = on_device - admission.host;
  admission.loaded = Blocks(static_cast<int64_t>(match.nodes.size())) - on_device;
  admission.host += admission.loaded;

  lease->blocks.reserve(total.size());
  lease->reserved = total - on_device;
  reserved_ += lease->reserved;
  admission.load = PlanLoad(match, request, lease);

  for (auto it = match.nodes.rbegin(); it != match.nodes.rend(); ++it) {
    const PrefixIndex::Node& node = index_.node(*it);
    if (node.HostReady()) host_.Touch(node.host);
  }
  lease->published = Blocks(static_cast<int64_t>(match.nodes.size()));
  if (!match.nodes.empty()) MoveTip(match.nodes.back(), lease);
  return admission;
}

CopyId KvCache::PlanLoad(const KvMatch& match, RequestId request, KvLease* lease) {
  Copy copy;
  copy.direction = LinkDirection::kHostToDevice;
  copy.copy_class = CopyClass::kDemand;
  copy.request = request;
  CopyRecord record;
  for (const NodeId id : match.nodes) {
    if (index_.node(id).HasDevice()) {
      lease->blocks.push_back(index_.node(id).device);
      continue;
    }
    const BlockId target = TakeReserved(lease);
    lease->blocks.push_back(target);
    if (record.nodes.empty()) {
      copy.id = next_copy_;
      next_copy_ = CopyId(next_copy_.value() + 1);
    }
    PrefixIndex::Node& node = index_.node(id);
    device_.AddTransit(target);
    device_.SetOwner(target, id);
    node.device = target;
    node.load = copy.id;
    record.nodes.push_back(id);
    record.blocks.push_back({node.host, target});
  }
  if (record.nodes.empty()) return CopyId();
  lease->loads.push_back(copy.id);
  copy.blocks = record.blocks;
  copies_.emplace(copy.id, std::move(record));
  planned_loads_.push_back(std::move(copy));
  return lease->loads.back();
}

// ---- While admitted --------------------------------------------------------------------------

BlockId KvCache::TakeReserved(KvLease* lease) {
  SLUICE_CHECK(lease->reserved > Blocks(0));
  if (device_.free() == Blocks(0)) EvictOldestDevice();
  lease->reserved -= Blocks(1);
  reserved_ -= Blocks(1);
  return device_.TakeForUse();
}

void KvCache::Grow(Blocks count, KvLease* lease) {
  while (lease->blocks.size() < count.size()) lease->blocks.push_back(TakeReserved(lease));
}

void KvCache::MoveTip(NodeId node, KvLease* lease) {
  index_.Pin(node);
  const NodeId before = std::exchange(lease->tip, node);
  if (before.valid()) index_.Unpin(before);
}

void KvCache::Publish(const TokenPath& path, Blocks count, KvLease* lease) {
  if (!options_.prefix_caching || !lease->publishing || count <= lease->published) return;
  SLUICE_CHECK(lease->loads.empty());
  SLUICE_CHECK(count.size() <= lease->blocks.size() && count.size() <= path.hashes.size());
  const size_t width = options_.tokens_per_block.size();
  for (size_t i = lease->published.size(); i < count.size(); ++i) {
    const std::span<const TokenId> tokens = path.tokens.subspan(i * width, width);
    NodeId id = index_.Find(lease->tip, path.salt, path.hashes[i], tokens);
    if (!id.valid()) id = index_.Insert(lease->tip, path.salt, path.hashes[i], tokens);
    if (!id.valid()) {
      lease->publishing = false;
      return;
    }
    PrefixIndex::Node& node = index_.node(id);
    if (!node.HasDevice()) {
      device_.SetOwner(lease->blocks[i], id);
      node.device = lease->blocks[i];
    }
    MoveTip(id, lease);
    lease->published += Blocks(1);
    TryStore(id);
  }
}

bool KvCache::Release(Blocks full, KvLease* lease) {
  Blocks backed;
  for (size_t i = 0; i < lease->published.size(); ++i) {
    const NodeId id = device_.owner(lease->blocks[i]);
    if (!id.valid()) continue;
    TryStore(id);
    if (index_.node(id).host.valid()) backed += Blocks(1);
  }
  reserved_ -= lease->reserved;
  for (auto it = lease->blocks.rbegin(); it != lease->blocks.rend(); ++it) {
    device_.DropReference(*it);
  }
  if (lease->tip.valid()) index_.Unpin(lease->tip);
  *lease = KvLease();
  ++room_epoch_;
  return backed >= full;
}

// ---- Eviction and stores ---------------------------------------------------------------------

void KvCache::EvictOldestDevice() {
  const BlockId block = device_.Oldest();
  SLUICE_CHECK(block.valid());
  const NodeId id = device_.owner(block);
  device_.ClearOwner(block);
  index_.node(id).device = BlockId();
  index_.RemoveIfUnused(id);
  counters_.device_evictions += Blocks(1);
}

void KvCache::EvictOldestHost() {
  const BlockId block = host_.Oldest();
  SLUICE_CHECK(block.valid());
  const NodeId id = host_.owner(block);
  host_.ClearOwner(block);
  index_.node(id).host = BlockId();
  index_.RemoveIfUnused(id);
  counters_.host_evictions += Blocks(1);
}

void KvCache::TryStore(NodeId id) {
  if (host_.capacity() == Blocks(0) || options_.max_store_blocks == Blocks(0)) return;
  PrefixIndex::Node& node = index_.node(id);
  if (node.host.valid() || !node.HasDevice() || node.load.valid()) return;
  // A cached block is promised room (see Available()): it must not become busy. The node's block
  // can be another than the publisher's, and unreferenced.
  if (device_.references(node.device) == 0) return;
  if (storing_ >= options_.max_store_blocks || host_.free() + host_.cached() == Blocks(0)) {
    ++counters_.stores_skipped;
    return;
  }
  if (host_.free() == Blocks(0)) EvictOldestHost();
  if (!planned_store_.has_value()) {
    planned_store_.emplace();
    planned_store_->id = next_copy_;
    planned_store_->direction = LinkDirection::kDeviceToHost;
    planned_store_->copy_class = CopyClass::kWriteBack;
    next_copy_ = CopyId(next_copy_.value() + 1);
    copies_[planned_store_->id].direction = LinkDirection::kDeviceToHost;
  }
  const BlockId target = host_.TakeForCopy();
  host_.SetOwner(target, id);
  node.host = target;
  node.store = planned_store_->id;
  device_.AddTransit(node.device);
  CopyRecord& record = copies_[planned_store_->id];
  record.nodes.push_back(id);
  record.blocks.push_back({node.device, target});
  planned_store_->blocks.push_back(record.blocks.back());
  storing_ += Blocks(1);
  ++counters_.stores;
}

// ---- Copies ----------------------------------------------------------------------------------

void KvCache::TakeCopies(std::vector<Copy>* copies) {
  for (Copy& copy : planned_loads_) copies->push_back(std::move(copy));
  planned_loads_.clear();
  if (!planned_store_.has_value()) return;
  copies->push_back(*std::move(planned_store_));
  planned_store_.reset();
}

KvCache::CopyEnd KvCache::OnCopyDone(CopyId copy, bool ok) {
  const auto it = copies_.find(copy);
  SLUICE_CHECK(it != copies_.end());
  const CopyRecord record = std::move(it->second);
  copies_.erase(it);
  if (record.direction == LinkDirection::kHostToDevice) {
    EndLoad(record, ok);
  } else {
    EndStore(record, ok);
  }
  ++room_epoch_;
  return {record.direction, ok};
}

void KvCache::EndLoad(const CopyRecord& record, bool ok) {
  // Last block first: the least recently used block is then the end of the prefix.
  for (size_t i = record.nodes.size(); i-- > 0;) {
    PrefixIndex::Node& node = index_.node(record.nodes[i]);
    const auto [source, target] = record.blocks[i];
    node.load = CopyId();
    if (!ok) {
      device_.ClearOwner(target);
      host_.ClearOwner(source);
      node.device = BlockId();
      node.host = BlockId();
    }
    device_.DropTransit(target);
    host_.DropTransit(source);
    index_.RemoveIfUnused(record.nodes[i]);
  }
}

void KvCache::EndStore(const CopyRecord& record, bool ok) {
  for (size_t i = record.nodes.size(); i-- > 0;) {
    PrefixIndex::Node& node = index_.node(record.nodes[i]);
    const auto [source, target] = record.blocks[i];
    node.store = CopyId();
    if (!ok) {
      host_.ClearOwner(target);
      node.host = BlockId();
    }
    device_.DropTransit(source);
    host_.DropTransit(target);
  }
  storing_ -= Blocks(static_cast<int64_t>(record.nodes.size()));
}

}  // namespace sluice
