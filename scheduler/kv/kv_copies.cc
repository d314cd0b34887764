// Copies towards the device, and how every copy ends.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {
namespace {

// Which blocks of a copy are in place.
std::vector<bool> GoodBlocks(size_t count, CopyOutcome outcome, std::span<const int32_t> failed) {
  if (outcome != CopyOutcome::kFailed || failed.empty()) {
    return std::vector<bool>(count, outcome == CopyOutcome::kOk);
  }
  std::vector<bool> good(count, true);
  for (const int32_t i : failed) {
    SLUICE_CHECK(i >= 0 && static_cast<size_t>(i) < count);
    good[static_cast<size_t>(i)] = false;
  }
  return good;
}

}  // namespace

// ---- Planning --------------------------------------------------------------------------------

Copy KvCache::NewCopy(LinkDirection direction, CopyClass copy_class, RequestId request,
                      int64_t rank) {
  Copy copy;
  copy.id = next_copy_;
  copy.direction = direction;
  copy.copy_class = copy_class;
  copy.request = request;
  copy.rank = rank;
  next_copy_ = CopyId(next_copy_.value() + 1);
  return copy;
}

void KvCache::Plan(Copy copy, CopyRecord record) {
  record.direction = copy.direction;
  record.blocks = copy.blocks;
  copies_.emplace(copy.id, std::move(record));
  planned_.push_back(std::move(copy));
}

void KvCache::AddToBatch(NodeId id, const Copy::Pair& pair, LinkDirection direction,
                         std::optional<Batch>* batch) {
  if (!batch->has_value()) {
    *batch = Batch();
    (*batch)->copy = NewCopy(direction, CopyClass::kWriteBack, RequestId(), 0);
    (*batch)->record = &copies_[(*batch)->copy.id];
    (*batch)->record->direction = direction;
  }
  (*batch)->copy.blocks.push_back(pair);
  (*batch)->record->blocks.push_back(pair);
  (*batch)->record->nodes.push_back(id);
}

void KvCache::AddLoad(NodeId id, BlockId target, Copy* copy, CopyRecord* record) {
  PrefixIndex::Node& node = index_.node(id);
  device_.SetOwner(target, id);
  node.device = target;
  node.load = copy->id;
  Revalue(id);
  copy->blocks.push_back({node.host, target});
  record->nodes.push_back(id);
}

void KvCache::AddStaging(NodeId id, Copy* copy, CopyRecord* record) {
  PrefixIndex::Node& node = index_.node(id);
  const BlockId target = host_.TakeForCopy();
  disk_.AddTransit(node.disk);
  host_.SetOwner(target, id);
  node.host = target;
  node.host_filling = true;
  copy->blocks.push_back({node.disk, target});
  copy->identities.push_back(index_.identity(id));
  record->nodes.push_back(id);
}

// Holding keeps the blocks of a match from eviction. Given back last to first, they are the most
// recently used ones then, which suits what is needed soon.
void KvCache::HoldOnDevice(const KvMatch& match) {
  for (const NodeId id : match.nodes) {
    if (index_.node(id).HasDevice()) device_.AddReference(index_.node(id).device);
  }
}

void KvCache::ReleaseOnDevice(const KvMatch& match) {
  for (auto it = match.nodes.rbegin(); it != match.nodes.rend(); ++it) {
    if (index_.node(*it).HasDevice()) device_.DropReference(index_.node(*it).device);
  }
}

void KvCache::HoldOnHost(const KvMatch& match) {
  for (const NodeId id : match.nodes) {
    if (index_.node(id).host.valid()) host_.AddReference(index_.node(id).host);
  }
}

void KvCache::ReleaseOnHost(const KvMatch& match) {
  for (auto it = match.nodes.rbegin(); it != match.nodes.rend(); ++it) {
    if (index_.node(*it).host.valid()) host_.DropReference(index_.node(*it).host);
  }
}

Blocks KvCache::Stage(const KvMatch& match, Blocks max_blocks, RequestId request,
                      CopyClass copy_class, int64_t rank) {
  const Blocks most = std::min(max_blocks, options_.max_stage_blocks - staging_);
  if (most <= Blocks(0) || match.on_disk == Blocks(0)) return Blocks(0);
  std::vector<NodeId> wanted;
  for (const NodeId id : match.nodes) {
    const PrefixIndex::Node& node = index_.node(id);
    if (node.HasDevice() || node.host.valid()) continue;
    wanted.push_back(id);
    if (wanted.size() == most.size()) break;
  }
  HoldOnHost(match);
  const size_t room = (host_.free() + host_.cached()).size();
  if (wanted.size() > room) wanted.resize(room);
  while (host_.free().size() < wanted.size()) EvictHost();
  ReleaseOnHost(match);
  if (wanted.empty()) return Blocks(0);
  Copy copy = NewCopy(LinkDirection::kDiskToHost, copy_class, request, rank);
  CopyRecord record;
  for (const NodeId id : wanted) AddStaging(id, &copy, &record);
  const Blocks count(static_cast<int64_t>(wanted.size()));
  staging_ += count;
  counters_.staged += count;
  Plan(std::move(copy), std::move(record));
  return count;
}

Blocks KvCache::Prefetch(const KvMatch& match, Blocks max_blocks, RequestId request, int64_t rank) {
  const Blocks most = std::min(max_blocks, options_.max_prefetch_blocks - prefetching_);
  if (most <= Blocks(0) || match.host_only == Blocks(0)) return Blocks(0);
  HoldOnDevice(match);
  const Blocks room = std::min(most, available());  // without what the match holds
  std::vector<NodeId> wanted;
  for (size_t i = 0; i < match.usable.size() && Blocks(static_cast<int64_t>(wanted.size())) < room;
       ++i) {
    if (!index_.node(match.nodes[i]).HasDevice()) wanted.push_back(match.nodes[i]);
  }
  while (device_.free().size() < wanted.size()) EvictDevice();
  ReleaseOnDevice(match);
  if (wanted.empty()) return Blocks(0);
  Copy copy = NewCopy(LinkDirection::kHostToDevice, CopyClass::kPrefetch, request, rank);
  CopyRecord record;
  record.prefetch = true;
  for (const NodeId id : wanted) {
    host_.AddTransit(index_.node(id).host);
    AddLoad(id, device_.TakeForCopy(), &copy, &record);
    index_.node(id).prefetched = true;
  }
  const Blocks count(static_cast<int64_t>(wanted.size()));
  prefetching_ += count;
  counters_.prefetched += count;
  Plan(std::move(copy), std::move(record));
  return count;
}

void KvCache::TakeCopies(std::vector<Copy>* copies) {
  PlanSpills();
  for (std::optional<Batch>* batch : {&planned_store_, &planned_spill_}) {
    if (batch->has_value()) planned_.push_back(std::move((*batch)->copy));
    batch->reset();
  }
  for (Copy& copy : planned_) {
    copies_.find(copy.id)->second.given_out = true;
    copies->push_back(std::move(copy));
  }
  planned_.clear();
}

// ---- Revocation ------------------------------------------------------------------------------

void KvCache::RevokeCopy(CopyId copy) {
  const auto it = copies_.find(copy);
  CopyRecord& record = it->second;
  SLUICE_CHECK(record.users == 0 && !record.revoked);
  ++counters_.revoked;
  ++content_epoch_;
  if (!record.given_out) {
    std::erase_if(planned_, [copy](const Copy& planned) { return planned.id == copy; });
    const CopyRecord ended = std::move(record);
    copies_.erase(it);
    EndCopy(ended, CopyOutcome::kRevoked, {});
    return;
  }
  // From here on the targets are nobody's; the nodes can be loaded again.
  for (const NodeId id : record.nodes) {
    DropDevice(id);
    index_.RemoveIfUnused(id);
  }
  record.revoked = true;
  revoked_.push_back(copy);
}

Blocks KvCache::RevokeUnused() {
  std::vector<CopyId> unused;
  Blocks blocks;
  for (const auto& [id, record] : copies_) {
    const bool load = record.direction == LinkDirection::kHostToDevice;
    if (!load || record.users > 0 || record.revoked || PinnedLoad(record)) continue;
    unused.push_back(id);
    blocks += Blocks(static_cast<int64_t>(record.nodes.size()));
  }
  for (const CopyId id : unused) RevokeCopy(id);
  return blocks;
}

void KvCache::TakeRevoked(std::vector<CopyId>* revoked) {
  revoked->insert(revoked->end(), revoked_.begin(), revoked_.end());
  revoked_.clear();
}

// ---- The end of a copy -----------------------------------------------------------------------

KvCache::CopyEnd KvCache::OnCopyDone(CopyId copy, CopyOutcome outcome,
                                     std::span<const int32_t> failed) {
  const auto it = copies_.find(copy);
  SLUICE_CHECK(it != copies_.end() && it->second.given_out);
  const CopyRecord record = std::move(it->second);
  copies_.erase(it);
  std::erase(revoked_, copy);  // too late to tell
  EndCopy(record, outcome, failed);
  return {record.direction, outcome == CopyOutcome::kOk, record.revoked};
}

void KvCache::EndCopy(const CopyRecord& record, CopyOutcome outcome,
                      std::span<const int32_t> failed) {
  switch (record.direction) {
    case LinkDirection::kHostToDevice:
      if (record.prefetch) prefetching_ -= Blocks(static_cast<int64_t>(record.nodes.size()));
      if (record.revoked) {
        EndRevokedLoad(record, outcome);
      } else {
        EndLoad(record, outcome);
      }
      break;
    case LinkDirection::kDeviceToHost:
      EndStore(record, GoodBlocks(record.nodes.size(), outcome, failed));
      break;
    case LinkDirection::kDiskToHost:
      EndStaging(record, outcome, GoodBlocks(record.nodes.size(), outcome, failed));
      break;
    case LinkDirection::kHostToDisk:
      EndSpill(record, GoodBlocks(record.nodes.size(), outcome, failed));
      break;
  }
  ++room_epoch_;
  ++content_epoch_;
}

// Everywhere last block first: the least recently used block is then the end of the prefix.
void KvCache::EndLoad(const CopyRecord& record, CopyOutcome outcome) {
  for (size_t i = record.nodes.size(); i-- > 0;) {
    const NodeId id = record.nodes[i];
    const auto [source, target] = record.blocks[i];
    index_.node(id).load = CopyId();
    if (outcome != CopyOutcome::kOk) DropDevice(id);
    // Another load of the same block may have cost it the host copy already.
    if (outcome == CopyOutcome::kFailed && host_.owner(source).valid()) DropHost(id);
    Tell(id);
    device_.DropTransit(target);
    host_.DropTransit(source);
    index_.RemoveIfUnused(id);
  }
}

void KvCache::EndRevokedLoad(const CopyRecord& record, CopyOutcome outcome) {
  for (size_t i = record.nodes.size(); i-- > 0;) {
    const NodeId id = record.nodes[i];
    const auto [source, target] = record.blocks[i];
    // A source that has lost its owner was found bad by another load; then the node may be gone,
    // and `id` name another one.
    const bool same = host_.owner(source).valid();
    if (same && outcome == CopyOutcome::kOk && !index_.node(id).HasDevice()) {
      device_.SetOwner(target, id);
      index_.node(id).device = target;
      Revalue(id);
      Tell(id);
    }
    if (same && outcome == CopyOutcome::kFailed) DropHost(id);
    device_.DropTransit(target);
    host_.DropTransit(source);
    if (same) index_.RemoveIfUnused(id);
  }
}

void KvCache::EndStaging(const CopyRecord& record, CopyOutcome outcome,
                         const std::vector<bool>& good) {
  for (size_t i = record.nodes.size(); i-- > 0;) {
    const NodeId id = record.nodes[i];
    const auto [source, target] = record.blocks[i];
    index_.node(id).host_filling = false;
    if (good[i]) {
      index_.node(id).staged = true;
      Revalue(id);
      Tell(id);
    } else {
      DropHost(id);
    }
    if (!good[i] && outcome == CopyOutcome::kFailed) DropDisk(id);
    host_.DropTransit(target);
    disk_.DropTransit(source);
    index_.RemoveIfUnused(id);
  }
  staging_ -= Blocks(static_cast<int64_t>(record.nodes.size()));
}

}  // namespace sluice
