// What must hold of matches and leases, after every call, and at the end; and random options.
#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "tests/property/content.h"
#include "tests/property/kv_world.h"

namespace sluice::testing {
KvWorldOptions RandomKvWorldOptions(uint64_t seed) {
  std::mt19937_64 rng(seed * 7919 + 17);
  const auto pick = [&rng](auto... choices) {
    const std::array values{choices...};
    return values[rng() % values.size()];
  };
  KvWorldOptions w;
  KvCacheOptions& o = w.cache;
  o.tokens_per_block = Tokens(pick(1, 2, 4));
  o.device_blocks = Blocks(pick(10, 16, 24));
  o.host_blocks = Blocks(pick(0, 4, 8, 16, 16, 40));
  o.max_store_blocks = Blocks(pick(0, 2, 8, 64, 64, 64, 64, 64));
  o.prefix_caching = pick(1, 1, 1, 1, 1, 1, 1, 0) != 0;
  o.disk_blocks = o.host_blocks > Blocks(0) ? Blocks(pick(0, 10, 40, 100)) : Blocks(0);
  o.max_stage_blocks = Blocks(pick(1, 4, 64));
  o.max_spill_blocks = Blocks(pick(0, 2, 64, 64));
  o.max_prefetch_blocks = Blocks(pick(0, 3, 64));
  o.min_hits_to_store = pick(0, 0, 0, 2, 3);
  o.min_hits_to_spill = pick(0, 0, 2);
  o.eviction = pick(EvictionOrder::kLru, EvictionOrder::kValue);
  w.block_hash = pick(&BlockHash, &BlockHash, &BlockHash, &BlockHash, &BlockHash, &BlockHash,
                      &WeakHash<31>, &WeakHash<0>);
  o.events = true;
  w.actions = pick(100, 400, 1000);
  w.vocabulary = pick(1, 2, 50, 50, 50);
  w.families = pick(1, 2, 4);
  w.max_blocks = pick(4, 6, 10);
  w.salts = pick(1, 1, 2);
  w.copy_failures = pick(0.0, 0.0, 0.1, 0.4, 0.4);
  w.claims = pick(1.0, 1.0, 0.5, 0.0);
  return w;
}

// ---- Matches ---------------------------------------------------------------------------------

void KvWorld::CheckMatch(const Prompt& prompt, size_t limit) {
  cache_.Match(prompt.path(), Blocks(static_cast<int64_t>(limit)), &match_);
  KvMatch want;  // counted anew
  bool usable = true;
  for (size_t i = 0; i < match_.nodes.size(); ++i) {
    const PrefixIndex::Node& node = cache_.index().node(match_.nodes[i]);
    const uint64_t content = prompt.content[i];
    if ((node.HasDevice() && !node.load.valid() && device_[node.device.index()] != content) ||
        (node.HostReady() && host_[node.host.index()] != content) ||
        (node.DiskReady() && disk_[node.disk.index()] != content)) {
      return Fail(absl::StrCat("a match finds foreign KV at block ", i));
    }
    const bool near = node.HasDevice() || node.HostReady();
    (!near                                    ? want.on_disk
     : node.HasDevice() && !node.load.valid() ? want.on_device
                                              : want.on_host) += Blocks(1);
    usable = usable && near;
    if (!usable) continue;
    want.usable += Blocks(1);
    if (!node.HasDevice()) {
      want.host_only += Blocks(1);
    } else if (cache_.device().references(node.device) + cache_.device().transits(node.device) >
               0) {
      want.shared += Blocks(1);
    }
  }
  if (want.on_disk != match_.on_disk || want.on_device != match_.on_device ||
      want.on_host != match_.on_host || want.usable != match_.usable ||
      want.host_only != match_.host_only || want.shared != match_.shared) {
    Fail("a match is miscounted");
  }
  if (match_.nodes.size() + match_.pending.size() > limit) Fail("a match is too long");
  if (match_.pending > Blocks(0)) ++coverage_.pending;
}

// ---- Leases ----------------------------------------------------------------------------------

void KvWorld::CheckAdmission(const Sequence& s, const KvAdmission& admission, const KvUse& use,
                             Blocks room_taken, Blocks need) {
  const KvLease& lease = s.lease;
  if (room_taken != need) Fail("an admission takes other room than it said");
  if (admission.device + admission.host + admission.gap != lease.published ||
      lease.published.size() != lease.blocks.size() || lease.published > match_.usable) {
    return Fail("an admission is miscounted");
  }
  if (lease.published > use.use) Fail("an admission uses more than it was told to");
  const Blocks gap = lease.gap_end - lease.gap_begin;
  if (gap != admission.gap || gap > use.recompute) Fail("a gap has the wrong size");
  for (size_t i = 0; i < lease.blocks.size(); ++i) {
    const bool in_gap = i >= lease.gap_begin.size() && i < lease.gap_end.size();
    if (!in_gap && !Readable(s, i)) return Fail(absl::StrCat("block ", i, " will never be there"));
  }
  if (!use.in_place && !lease.host_blocks.empty()) Fail("in place without leave");
  coverage_.gaps += gap > Blocks(0) ? 1 : 0;
  coverage_.in_place += admission.in_place > Blocks(0) ? 1 : 0;
  coverage_.from_disk += admission.from_disk.value();
  coverage_.joins += lease.loads.size() > (admission.load.valid() ? 1U : 0U) ? 1 : 0;
  for (const NodeId id : lease.nodes) {
    if (cache_.index().node(id).claims > 1) ++coverage_.shared_claims;
  }
}

bool KvWorld::Readable(const Sequence& s, size_t i) const {
  const BlockId block = s.lease.blocks[i];
  const uint64_t content = s.prompt.content[i];
  if (!block.valid()) {
    return host_[s.lease.host_blocks[i].index()] == content;
  }
  if (device_[block.index()] == content) return true;
  // A load of its own, given out or only planned: then the source still has the content.
  for (const CopyUnderWay& c : copies_) {
    if (c.copy.direction != LinkDirection::kHostToDevice || c.revoked) continue;
    for (size_t k = 0; k < c.copy.blocks.size(); ++k) {
      if (c.copy.blocks[k].target != block) continue;
      const std::vector<CopyId>& loads = s.lease.loads;
      return c.sources[k] == content &&
             std::find(loads.begin(), loads.end(), c.copy.id) != loads.end();
    }
  }
  const NodeId id = cache_.device().owner(block);
  if (!id.valid() || !cache_.index().node(id).load.valid()) return false;
  const PrefixIndex::Node& node = cache_.index().node(id);
  const std::vector<CopyId>& loads = s.lease.loads;
  if (std::find(loads.begin(), loads.end(), node.load) == loads.end()) return false;
  // The node may have lost its host copy to another load that failed: seen when this one starts.
  return !node.host.valid() || host_[node.host.index()] == content;
}

bool KvWorld::Writable(BlockId block) const {
  if (!block.valid() || cache_.device().owner(block).valid()) return false;
  if (cache_.device().transits(block) > 0 || cache_.device().references(block) != 1) return false;
  for (const CopyUnderWay& c : copies_) {
    for (const Copy::Pair& pair : c.copy.blocks) {
      if (c.copy.direction == LinkDirection::kHostToDevice && pair.target == block) return false;
      if (c.copy.direction == LinkDirection::kDeviceToHost && pair.source == block) return false;
    }
  }
  return true;
}

// ---- After every call ------------------------------------------------------------------------

void KvWorld::AfterCall() {
  if (!failure_.empty()) return;
  std::vector<const KvLease*> leases;
  for (const auto& s : live_) leases.push_back(&s->lease);
  if (const absl::Status status = cache_.CheckInvariants(leases); !status.ok()) {
    return Fail(std::string(status.message()));
  }
  for (const BlockPool* pool : {&cache_.device(), &cache_.host(), &cache_.disk()}) {
    if (pool->free() + pool->referenced() + pool->cached() + pool->in_transit() !=
        pool->capacity()) {
      Fail("tier counts do not sum to the capacity");
    }
  }
  CheckRefusal();
  CheckEvents();
  CheckPins();
}

void KvWorld::CheckPins() {
  const std::array<Blocks, 2> now = {cache_.pinned(Tier::kDevice), cache_.pinned(Tier::kHost)};
  for (size_t i = 0; i < now.size(); ++i) {
    if (now[i] >= pins_[i]) continue;
    ++coverage_.pins_lost;
    if (!pins_may_end_) Fail("a pin ended before its time");
  }
  pins_ = now;
  pins_may_end_ = false;
}

void KvWorld::CheckRefusal() {
  if (!refusal_.has_value()) return;
  if (refusal_->content_epoch != cache_.content_epoch()) return refusal_.reset();
  KvMatch match;
  cache_.Match(refusal_->prompt.path(), Blocks(static_cast<int64_t>(refusal_->prompt.blocks())),
               &match);
  if (match.nodes.size() > refusal_->matched || match.usable > refusal_->usable) {
    return Fail("a match became longer, but the content epoch did not change");
  }
  if (match.nodes.size() == refusal_->matched && refusal_->pending > Blocks(0) &&
      match.pending == Blocks(0)) {
    return Fail("nothing is pending any more, but the content epoch did not change");
  }
  if (refusal_->room_epoch != cache_.room_epoch()) return;
  ++coverage_.refusals_rechecked;
  if (cache_.Fits(match, refusal_->total, refusal_->use)) {
    Fail("a request fits that did not, but no epoch changed");
  }
}

void KvWorld::CheckEvents() {
  const KvEvents events = cache_.TakeEvents();
  for (size_t i = 0; i < events.size(); ++i) {
    const KvEvent& event = events[i];
    if (event.kind == KvEvent::Kind::kRemoved) {
      if (told_.erase(event.block) == 0) return Fail("a block is removed that was not stored");
      ++coverage_.removed_events;
      continue;
    }
    const std::span<const TokenId> tokens = events.tokens(i);
    Told told{event.parent, event.salt, {tokens.begin(), tokens.end()}};
    if (!told_.emplace(event.block, std::move(told)).second) return Fail("a block is stored twice");
  }
  // What is there, read from the index.
  std::map<uint64_t, Told> want;
  const PrefixIndex& index = cache_.index();
  for (int32_t i = 0; i < index.end(); ++i) {
    const NodeId id(i);
    if (!index.live(id)) continue;
    const PrefixIndex::Node& node = index.node(id);
    const bool on_device = node.device.valid() && !node.load.valid();
    if (!on_device && !node.HostReady() && !node.DiskReady()) continue;
    const NodeId parent = index.parent(id);
    Told told{std::nullopt, index.salt(id), {index.tokens(id).begin(), index.tokens(id).end()}};
    if (parent.valid()) told.parent = index.hash(parent).low;
    want.emplace(index.hash(id).low, std::move(told));
  }
  if (told_ != want) return Fail("replayed events give other blocks than there are");
  if (cache_.ListBlocks().size() != want.size()) Fail("a list of all blocks has another length");
}

void KvWorld::CheckDrained() {
  for (const BlockPool* pool : {&cache_.device(), &cache_.host(), &cache_.disk()}) {
    if (pool->referenced() != Blocks(0) || pool->in_transit() != Blocks(0)) {
      Fail("blocks are still in use after the last sequence");
    }
  }
  if (cache_.reserved() != Blocks(0)) Fail("blocks are still reserved after the last sequence");
  // All that is still found must be right.
  for (const Prompt& prompt : history_) CheckMatch(prompt, prompt.blocks());
}

}  // namespace sluice::testing
