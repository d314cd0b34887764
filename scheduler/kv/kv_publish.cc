// The life of a lease after its admission.
#include <algorithm>
#include <utility>

#include "scheduler/base/check.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {

BlockId KvCache::TakeReserved(KvLease* lease) {
  SLUICE_CHECK(lease->reserved > Blocks(0));
  if (device_.free() == Blocks(0)) EvictDevice();
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

// ---- Claims ----------------------------------------------------------------------------------

void KvCache::Claim(const TokenPath& path, Blocks count, KvLease* lease) {
  if (!options_.prefix_caching || !lease->publishing || count <= lease->published) return;
  SLUICE_CHECK(lease->claimed == lease->published && lease->nodes.size() == lease->claimed.size());
  SLUICE_CHECK(count.size() <= path.hashes.size());
  const size_t width = options_.tokens_per_block.size();
  lease->nodes.reserve(count.size());
  for (size_t i = lease->published.size(); i < count.size(); ++i) {
    const NodeId parent = i == 0 ? NodeId() : lease->nodes.back();
    const NodeId id = index_.FindOrInsert(parent, path.salt, path.hashes[i],
                                          path.tokens.subspan(i * width, width));
    if (!id.valid()) break;  // Publish() tries again: the other prefix may be gone by then
    ++index_.node(id).claims;
    lease->nodes.push_back(id);
    lease->claimed += Blocks(1);
  }
}

void KvCache::DropClaim(NodeId id) {
  PrefixIndex::Node& node = index_.node(id);
  SLUICE_CHECK(node.claims > 0);
  --node.claims;
}

void KvCache::DropClaims(KvLease* lease) {
  const bool any = lease->claimed > lease->published || lease->gap_end > lease->gap_published;
  for (size_t i = lease->claimed.size(); i-- > lease->published.size();) {
    DropClaim(lease->nodes[i]);
    index_.RemoveIfUnused(lease->nodes[i]);
  }
  for (size_t i = lease->gap_published.size(); i < lease->gap_end.size(); ++i) {
    DropClaim(lease->nodes[i]);  // stays: its descendant, the tip, is pinned
  }
  if (any) ++content_epoch_;
}

// ---- Publication -----------------------------------------------------------------------------

void KvCache::Offer(NodeId id, BlockId block) {
  PrefixIndex::Node& node = index_.node(id);
  if (!node.HasDevice()) {
    device_.SetOwner(block, id);
    node.device = block;
    node.prefetched = false;
    Revalue(id);
    Tell(id);
  }
  TryStore(id, StoreReason::kSeen);
}

void KvCache::OfferGap(size_t count, KvLease* lease) {
  const size_t end = std::min(count, lease->gap_end.size());
  if (end <= lease->gap_published.size()) return;
  for (size_t i = lease->gap_published.size(); i < end; ++i) {
    DropClaim(lease->nodes[i]);
    Offer(lease->nodes[i], lease->blocks[i]);
  }
  lease->gap_published = Blocks(static_cast<int64_t>(end));
  ++content_epoch_;
}

void KvCache::PublishGap(Blocks count, KvLease* lease) {
  std::erase_if(lease->gap_loads, [this](CopyId load) { return !InFlight(load); });
  if (lease->gap_loads.empty()) OfferGap(count.size(), lease);
}

void KvCache::Publish(const TokenPath& path, Blocks count, KvLease* lease) {
  if (!options_.prefix_caching || !lease->publishing) return;
  SLUICE_CHECK(lease->loads.empty());
  OfferGap(count.size(), lease);
  if (count <= lease->published) return;
  SLUICE_CHECK(count.size() <= lease->blocks.size() && count.size() <= path.hashes.size());
  const size_t width = options_.tokens_per_block.size();
  for (size_t i = lease->published.size(); i < count.size(); ++i) {
    if (i < lease->claimed.size()) {
      DropClaim(lease->nodes[i]);
    } else {
      const NodeId parent = i == 0 ? NodeId() : lease->nodes[i - 1];
      const NodeId id = index_.FindOrInsert(parent, path.salt, path.hashes[i],
                                            path.tokens.subspan(i * width, width));
      lease->publishing = id.valid();
      if (!id.valid()) break;
      lease->nodes.push_back(id);
      lease->claimed += Blocks(1);
    }
    See(lease->nodes[i]);
    Offer(lease->nodes[i], lease->blocks[i]);
    lease->published += Blocks(1);
  }
  if (lease->published > Blocks(0)) MoveTip(lease->nodes[lease->published.size() - 1], lease);
  ++content_epoch_;
}

// ---- The end ---------------------------------------------------------------------------------

bool KvCache::Release(Blocks full, KvLease* lease, bool returns) {
  Blocks backed;
  const StoreReason reason = returns ? StoreReason::kReturns : StoreReason::kRetry;
  for (size_t i = 0; i < lease->published.size(); ++i) {
    const NodeId id = lease->nodes[i];
    TryStore(id, reason);
    if (index_.node(id).host.valid()) backed += Blocks(1);
  }
  DropClaims(lease);
  reserved_ -= lease->reserved;
  for (auto it = lease->host_blocks.rbegin(); it != lease->host_blocks.rend(); ++it) {
    if (it->valid()) host_.DropReference(*it);
  }
  for (auto it = lease->blocks.rbegin(); it != lease->blocks.rend(); ++it) {
    if (it->valid()) device_.DropReference(*it);
  }
  for (const CopyId load : lease->loads) {
    if (const auto it = copies_.find(load); it != copies_.end()) --it->second.users;
  }
  if (lease->tip.valid()) index_.Unpin(lease->tip);
  *lease = KvLease();
  ++room_epoch_;
  return backed >= full;
}

bool KvCache::Revoke(Blocks full, KvLease* lease, bool returns) {
  const std::vector<CopyId> loads = lease->loads;
  const bool backed = Release(full, lease, returns);
  for (const CopyId load : loads) {
    const auto it = copies_.find(load);
    if (it == copies_.end() || it->second.users > 0 || PinnedLoad(it->second)) continue;
    RevokeCopy(load);
  }
  return backed;
}

}  // namespace sluice
