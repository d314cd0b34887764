// What the cache holds of a prompt, and what room its admission would take.
#include <algorithm>
#include <optional>

#include "scheduler/base/check.h"
#include "scheduler/kv/kv_cache.h"

namespace sluice {
namespace {

// Nodes between one being fetched from memory and being looked at.
constexpr size_t kAhead = 8;

}  // namespace

void KvCache::TallyBlock(const PrefixIndex::Node& node, Tally* tally) const {
  if (!node.HasDevice()) {
    tally->host_only += Blocks(1);
    return;
  }
  const bool used = device_.references(node.device) > 0;
  const bool moving = device_.transits(node.device) > 0;
  if (used || moving) tally->shared += Blocks(1);
  if (!used && moving) tally->in_transit += Blocks(1);
}

NodeId KvCache::FindBlock(const TokenPath& path, NodeId parent, size_t i) {
  const size_t width = options_.tokens_per_block.size();
  std::vector<PrefixIndex::Ticket>* known = path.known;
  if (known != nullptr && i < known->size()) {
    if (i + kAhead < known->size()) index_.Prefetch((*known)[i + kAhead].node);
    if (const NodeId id = index_.Redeem((*known)[i]); id.valid()) return id;
    known->resize(i);  // those behind it are gone, too
  }
  const NodeId id =
      index_.Find(parent, path.salt, path.hashes[i], path.tokens.subspan(i * width, width));
  if (known != nullptr && id.valid()) known->push_back(index_.ticket(id));
  return id;
}

void KvCache::Match(const TokenPath& path, Blocks limit, KvMatch* match) {
  match->nodes.clear();
  match->on_device = match->on_host = match->on_disk = Blocks(0);
  match->usable = match->pending = Blocks(0);
  match->shared = match->in_transit = match->host_only = Blocks(0);
  if (!options_.prefix_caching) return;
  SLUICE_CHECK(limit.size() <= path.hashes.size());
  const auto find = [&](NodeId parent, size_t i) { return FindBlock(path, parent, i); };
  Tally tally;
  bool usable = true;
  size_t i = 0;
  NodeId id;
  for (; i < limit.size(); ++i) {
    id = find(id, i);
    if (!id.valid() || !index_.node(id).HasCopy()) break;
    const PrefixIndex::Node& node = index_.node(id);
    match->nodes.push_back(id);
    const bool near = node.HasDevice() || node.HostReady();
    if (!near) {
      match->on_disk += Blocks(1);
    } else if (node.HasDevice() && !node.load.valid()) {
      match->on_device += Blocks(1);
    } else {
      match->on_host += Blocks(1);
    }
    usable = usable && near;
    if (!usable) continue;
    match->usable += Blocks(1);
    TallyBlock(node, &tally);
  }
  match->shared = tally.shared;
  match->in_transit = tally.in_transit;
  match->host_only = tally.host_only;
  while (i < limit.size() && id.valid() &&
         (index_.node(id).claims > 0 || index_.node(id).HasCopy())) {
    match->pending += Blocks(1);
    if (++i < limit.size()) id = find(id, i);
  }
}

KvCache::Tally KvCache::TallyUsed(const KvMatch& match, size_t used) const {
  if (used == match.usable.size()) return {match.shared, match.in_transit, match.host_only};
  Tally tally;
  for (size_t i = 0; i < used; ++i) TallyBlock(index_.node(match.nodes[i]), &tally);
  return tally;
}

KvCache::Extent KvCache::Resolve(const KvMatch& match, const KvUse& use) const {
  SLUICE_CHECK(!use.in_place || use.recompute == Blocks(0));
  Extent extent;
  extent.used = std::min(use.use, match.usable).size();
  if (use.recompute == Blocks(0)) return extent;
  const auto host_only = [&](size_t i) { return !index_.node(match.nodes[i]).HasDevice(); };
  size_t begin = 0;
  while (begin < extent.used && !host_only(begin)) ++begin;
  size_t end = begin;
  const size_t most = std::min(use.recompute.size(), extent.used - begin);
  while (end - begin < most && host_only(end)) ++end;
  if (end == extent.used) return {begin, 0, 0};  // nothing behind it: no gap, just less use
  extent.gap_begin = begin;
  extent.gap_end = end;
  return extent;
}

Blocks KvCache::Need(const KvMatch& match, Blocks total, const KvUse& use) const {
  // A gap does not matter: its blocks take as much room as loaded ones.
  const Tally tally = TallyUsed(match, std::min(use.use, match.usable).size());
  return total - tally.shared - (use.in_place ? tally.host_only : Blocks(0));
}

std::optional<size_t> KvCache::VictimsNeeded(const KvMatch& match, Blocks total, const KvUse& use,
                                             std::span<const KvLease* const> victims) {
  const size_t used = std::min(use.use, match.usable).size();
  // Once copies have ended, what is in transit is room, but no longer free of charge to a match.
  Blocks lacking = (Need(match, total, use) + TallyUsed(match, used).in_transit) -
                   (available() + device_.in_transit());
  const auto mark = [&](uint8_t wanted) {
    for (size_t i = 0; i < used; ++i) {
      const PrefixIndex::Node& node = index_.node(match.nodes[i]);
      if (node.HasDevice()) wanted_[node.device.index()] = wanted;
    }
  };
  mark(1);
  size_t released = 0;
  while (lacking > Blocks(0) && released < victims.size()) {
    const KvLease& victim = *victims[released++];
    lacking -= victim.reserved;
    for (const BlockId block : victim.blocks) {
      if (!block.valid()) continue;
      const bool last = ++dropped_[block.index()] == device_.references(block);
      // A block the match wants gives room and takes it again.
      if (last && wanted_[block.index()] == 0) lacking -= Blocks(1);
    }
  }
  for (size_t i = 0; i < released; ++i) {
    for (const BlockId block : victims[i]->blocks) {
      if (block.valid()) dropped_[block.index()] = 0;
    }
  }
  mark(0);
  if (lacking > Blocks(0)) return std::nullopt;
  return released;
}

}  // namespace sluice
