// Admission: what is used is held, what is missing is planned, the rest is promised.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {

KvAdmission KvCache::Admit(const KvMatch& match, Blocks total, const KvUse& use, RequestId request,
                           KvLease* lease) {
  SLUICE_CHECK(Fits(match, total, use));
  SLUICE_CHECK(lease->blocks.empty() && lease->reserved == Blocks(0) && !lease->tip.valid());
  const Extent extent = Resolve(match, use);
  KvAdmission admission;
  lease->blocks.reserve(total.size());
  HoldUsed(match, extent, use, lease, &admission);
  const Blocks held = Blocks(static_cast<int64_t>(extent.used)) - admission.loaded - admission.gap;
  lease->reserved = total - held;
  reserved_ += lease->reserved;
  FillBlocks(match, extent, use, request, lease, &admission);

  const auto begin = match.nodes.begin();
  lease->nodes.assign(begin, begin + static_cast<std::ptrdiff_t>(extent.used));
  lease->published = lease->claimed = Blocks(static_cast<int64_t>(extent.used));
  lease->gap_begin = lease->gap_published = Blocks(static_cast<int64_t>(extent.gap_begin));
  lease->gap_end = Blocks(static_cast<int64_t>(extent.gap_end));
  for (size_t i = extent.gap_begin; i < extent.gap_end; ++i) ++index_.node(match.nodes[i]).claims;
  if (extent.used > 0) MoveTip(lease->nodes.back(), lease);
  NoteUse(match, extent, &admission);
  return admission;
}

// Nothing is evicted before all that is used has a user or a copy.
void KvCache::HoldUsed(const KvMatch& match, const Extent& extent, const KvUse& use, KvLease* lease,
                       KvAdmission* admission) {
  for (size_t i = 0; i < extent.used; ++i) {
    const PrefixIndex::Node& node = index_.node(match.nodes[i]);
    if (i >= extent.gap_begin && i < extent.gap_end) {
      admission->gap += Blocks(1);
    } else if (node.HasDevice()) {
      device_.AddReference(node.device);
      if (node.load.valid()) {
        JoinLoad(node.load, i < extent.gap_begin, lease);
        admission->host += Blocks(1);
      } else {
        admission->device += Blocks(1);
      }
    } else if (use.in_place) {
      host_.AddReference(node.host);
      admission->in_place += Blocks(1);
    } else {
      host_.AddTransit(node.host);
      admission->loaded += Blocks(1);
    }
  }
  admission->host += admission->in_place + admission->loaded;
}

void KvCache::JoinLoad(CopyId load, bool before_gap, KvLease* lease) {
  const auto listed = [load](const std::vector<CopyId>& loads) {
    // Mostly the one before.
    return !loads.empty() &&
           (loads.back() == load || std::find(loads.begin(), loads.end(), load) != loads.end());
  };
  if (before_gap && !listed(lease->gap_loads)) lease->gap_loads.push_back(load);
  if (listed(lease->loads)) return;
  lease->loads.push_back(load);
  ++copies_.find(load)->second.users;
}

void KvCache::FillBlocks(const KvMatch& match, const Extent& extent, const KvUse& use,
                         RequestId request, KvLease* lease, KvAdmission* admission) {
  Copy copy;
  CopyRecord record;
  if (admission->loaded > Blocks(0)) {
    copy = NewCopy(LinkDirection::kHostToDevice, CopyClass::kDemand, request, use.rank);
    copy.blocks.reserve(admission->loaded.size());
    record.nodes.reserve(admission->loaded.size());
  }
  for (size_t i = 0; i < extent.used; ++i) {
    const NodeId id = match.nodes[i];
    const PrefixIndex::Node& node = index_.node(id);
    if (i >= extent.gap_begin && i < extent.gap_end) {
      lease->blocks.push_back(TakeReserved(lease));
    } else if (node.HasDevice()) {
      lease->blocks.push_back(node.device);
    } else if (use.in_place) {
      lease->blocks.push_back(BlockId());
      lease->host_blocks.resize(i);
      lease->host_blocks.push_back(node.host);
    } else {
      const BlockId target = TakeReserved(lease);
      device_.AddTransit(target);
      lease->blocks.push_back(target);
      AddLoad(id, target, &copy, &record);
    }
  }
  if (admission->loaded == Blocks(0)) return;
  record.users = 1;
  admission->load = copy.id;
  lease->loads.push_back(copy.id);
  Plan(std::move(copy), std::move(record));
}

// Last block first, so that the end of the prefix is the least recently used.
void KvCache::NoteUse(const KvMatch& match, const Extent& extent, KvAdmission* admission) {
  for (size_t i = extent.used; i-- > 0;) {
    const NodeId id = match.nodes[i];
    See(id);
    PrefixIndex::Node& node = index_.node(id);
    if (node.host.valid()) host_.Touch(node.host);
    if (node.disk.valid()) disk_.Touch(node.disk);
    if (i >= extent.gap_begin && i < extent.gap_end) continue;
    const bool from_host = !node.HasDevice() || node.load.valid();
    if (node.prefetched) counters_.prefetches_used += Blocks(1);
    if ((from_host || node.prefetched) && node.stored) {
      node.stored = false;
      NoteStoreOutcome(/*used=*/true);
    }
    if (from_host && node.staged) admission->from_disk += Blocks(1);
    node.staged = false;
    node.prefetched = false;
    if (options_.min_hits_to_store > 1) TryStore(id, StoreReason::kSeen);
  }
}

}  // namespace sluice
