// KvCache decides where KV lives: it joins the pools of device, host and disk, the prefix index and
// the list of copies between the pools. It lists copies; others move the bytes.
//
//   Match ──> Fits ──> Admit ──> Claim ──> Grow … PublishGap … Publish … ──> Release / Revoke
//     │                  │                                        │
//     │                  └─ load                                  └─ store ─> (write-behind) spill
//     └─ Stage (disk -> host), Prefetch (host -> device)
//                                           all copies ──> TakeCopies ··> OnCopyDone
//
// Reservation. Admit() promises a request all device blocks it can ever need and Grow() takes them
// one by one, so KV of others stays cached until its room is really needed. At all times
//   free + cached >= reserved     (device tier)
// hence Grow() cannot fail. Blocks in transit do not count as room. This holds because Admit()
// alone makes promises, Prefetch(), StoreAhead() and Pin() only take room that nobody was promised,
// and apart from them a cached block never leaves that state but by eviction: other stores begin
// while their source is referenced.
//
// Copies and reuse. A block that a copy reads or writes is never evicted, freed or written before
// OnCopyDone(). A published block is never written again. Hence a copy may run beside any step.
//
// Thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "scheduler/base/units.h"
#include "scheduler/kv/block_pool.h"
#include "scheduler/kv/kv_events.h"
#include "scheduler/kv/kv_types.h"
#include "scheduler/kv/pins.h"
#include "scheduler/kv/prefix_index.h"
#include "scheduler/kv/sightings.h"
#include "scheduler/step.h"

namespace sluice {

class KvCache {
 public:
  // Since the start. Blocks, unless said otherwise.
  struct Counters {
    int64_t stores = 0;          // queued for the host
    int64_t stores_skipped = 0;  // not stored: no room, or too many under way
    int64_t stores_gated = 0;    // not stored: not seen often enough; per sighting
    Blocks stores_reused;        // stored ones that were used at least once since
    Blocks spills;               // queued for the disk
    Blocks spills_skipped;       // not written: no room, or too many waiting
    Blocks staged;               // queued from the disk to the host
    Blocks prefetched;           // queued for the device ahead of need
    Blocks prefetches_used;      // of these, used afterwards
    Blocks device_evictions;
    Blocks host_evictions;
    Blocks disk_evictions;
    int64_t revoked = 0;  // loads
    Blocks pins_yielded;
    Blocks evicted_on_request;
  };

  struct CopyEnd {
    LinkDirection direction = LinkDirection::kHostToDevice;
    bool ok = true;        // the bytes are in place
    bool revoked = false;  // nobody waited for it any more
  };

  explicit KvCache(const KvCacheOptions& options);

  // --- Admission ---

  // Finds the longest run of leading blocks, at most `limit`, that have a copy on some tier (on the
  // device perhaps still on its way), and what is being computed behind it. About 10 ns per block.
  void Match(const TokenPath& path, Blocks limit, KvMatch* match);

  // Device blocks that a sequence which needs `total` in all would take from available(). O(1) if
  // all usable blocks are used, else O(use).
  Blocks Need(const KvMatch& match, Blocks total, const KvUse& use = {}) const;

  // Whether it could be admitted now.
  bool Fits(const KvMatch& match, Blocks total, const KvUse& use = {}) const {
    return Need(match, total, use) <= available();
  }

  // How many of `victims`, counted from the front, must be released so that the sequence fits, at
  // the latest when all present copies have ended. nullopt if all of them do not suffice.
  std::optional<size_t> VictimsNeeded(const KvMatch& match, Blocks total, const KvUse& use,
                                      std::span<const KvLease* const> victims);
  std::optional<size_t> VictimsNeeded(const KvMatch& match, Blocks total,
                                      std::span<const KvLease* const> victims) {
    return VictimsNeeded(match, total, {}, victims);
  }

  // References the used blocks, takes those of the gap, plans one load for the others that are on
  // the host only, and reserves the rest. REQUIRES: Fits(match, total, use); `lease` is empty.
  KvAdmission Admit(const KvMatch& match, Blocks total, const KvUse& use, RequestId request,
                    KvLease* lease);
  KvAdmission Admit(const KvMatch& match, Blocks total, RequestId request, KvLease* lease) {
    return Admit(match, total, {}, request, lease);
  }

  // Announces that the sequence will compute the full blocks up to `count`, so that Match() shows
  // them to others as pending. (Those of the gap are announced by Admit().) Several sequences may
  // claim the same block. REQUIRES: the path covers them; count within the admitted total; once,
  // before the first Publish().
  void Claim(const TokenPath& path, Blocks count, KvLease* lease);

  // --- While admitted ---

  // Takes reserved blocks until the lease has `count`. REQUIRES: count within the admitted total.
  void Grow(Blocks count, KvLease* lease);

  // Offers blocks up to `count`, which hold finished KV, to the index and to the host tier.
  // A block whose node has a device copy already stays private to the lease. The gap, which must
  // have been computed before, is offered as well.
  // REQUIRES: count <= blocks held; the path covers them; `lease->loads` is empty.
  void Publish(const TokenPath& path, Blocks count, KvLease* lease);

  // Offers the finished blocks of the gap before block `count`, while loads may still be under way
  // behind it. Does nothing while a load fills blocks before the gap: those could turn out bad.
  void PublishGap(Blocks count, KvLease* lease);

  // Gives all blocks, claims and the reservation back; what is published stays cached, the
  // sequence's first blocks longest. Loads under way go on. Tries once more to store published
  // blocks that are not on the host; if the sequence `returns`, whatever the gate says.
  // Returns whether the first `full` blocks are all on the host or on their way to it.
  bool Release(Blocks full, KvLease* lease, bool returns = false);

  // --- Copies ---

  // Release(), and those of its loads that no other lease lists are revoked: TakeRevoked() names
  // them, nobody joins them any more, and their target blocks are in transit until they end.
  bool Revoke(Blocks full, KvLease* lease, bool returns = true);

  // Revokes all loads that no lease lists: prefetches, and those of released sequences.
  // Returns their blocks.
  Blocks RevokeUnused();

  // Plans a copy from disk to host of the first (at most) `max_blocks` matched blocks that are on
  // the disk only. Evicts cached host blocks for it, but none of the match.
  // Returns how many; fewer if there is no room or too many are under way.
  Blocks Stage(const KvMatch& match, Blocks max_blocks, RequestId request, CopyClass copy_class,
               int64_t rank = 0);

  // Plans a load of the first (at most) `max_blocks` usable blocks that are on the host only, into
  // room that nobody was promised; evicts for it, but none of the match. Returns how many.
  // The blocks are evictable once they have arrived. Who is admitted earlier joins the load.
  Blocks Prefetch(const KvMatch& match, Blocks max_blocks, RequestId request, int64_t rank = 0);

  bool InFlight(CopyId copy) const { return copies_.contains(copy); }

  // Appends the copies planned since the last call: loads and stagings in the order planned, then
  // at most one store and at most one spill.
  void TakeCopies(std::vector<Copy>* copies);
  // Appends the ids of copies, all given out by TakeCopies() before, that were revoked since.
  void TakeRevoked(std::vector<CopyId>* revoked);

  // The end of a copy that TakeCopies() gave out. After a failed load its target blocks belong to
  // no node (holders of leases that list the copy must release them) and the host copies, being
  // suspect, are dropped; after a failed staging the disk copies. After a failed store or spill
  // there is no copy. kRevoked costs the targets only. A revoked load that arrived nevertheless is
  // of use if nobody has planned another meanwhile.
  // REQUIRES: once per copy.
  // `failed`: see CopyResult; of a staging, a store or a spill that failed, the others are in
  // place.
  CopyEnd OnCopyDone(CopyId copy, CopyOutcome outcome, std::span<const int32_t> failed = {});
  CopyEnd OnCopyDone(CopyId copy, bool ok) {
    return OnCopyDone(copy, ok ? CopyOutcome::kOk : CopyOutcome::kFailed);
  }

  // --- The disk tier outlives the process ---

  // Gives blocks that the disk tier still holds their nodes and their places in the pool. `blocks`:
  // oldest first. Returns the slots it has no use for: a block whose parent has no node, the older
  // of two with one hash. Those most recently used last are evicted last, the first blocks of a
  // prompt after those behind them.
  // REQUIRES: the slots are free; each hash belongs to its parent's hash and its tokens.
  // About 0.5 us per block.
  std::vector<BlockId> Adopt(std::span<const StoredBlock> blocks);

  // The same while serving, for a store that others write to as well: of the path's blocks from
  // `known` on, which it holds, those that no copy is here of get a slot; for want of free ones
  // those of the least recently used. Returns their places in the path. Nothing if the cache does
  // not hold the first `known` blocks any more. O(path).
  struct FoundBlock {
    size_t block = 0;
    BlockId slot;
  };
  std::vector<FoundBlock> AdoptFound(const TokenPath& path, size_t known);

  // Off: what is to be written to the disk waits, and the oldest of it is given up in time.
  void set_spilling(bool on) { spilling_allowed_ = on; }
  // Blocks on their way to the disk or waiting for their turn, those on their way to the host
  // included, from where they will go on. 0 while spilling is off.
  Blocks spills_pending() const;

  // --- Pins, moves and evictions on request ---

  // Most blocks of kDevice or kHost that may be pinned, and those that are.
  Blocks PinLimit(Tier tier) const;
  Blocks pinned(Tier tier) const { return PinsOf(tier).size(); }
  // Of `all` blocks, which begin with the match, those that are not pinned there yet.
  Blocks PinsWanted(const KvMatch& match, Tier tier, Blocks all) const;

  // Pins the matched blocks that have a copy on `tier` (kDevice, kHost), there or arriving: they
  // are evicted for nobody until `until`; a longer pin stays. Leaves out those that would exceed
  // PinLimit(), and on the device those whose room is promised to others. A pin counts as a
  // reference of the block; it ends early if the copy proves bad. Returns how many are pinned now.
  Blocks Pin(const KvMatch& match, Tier tier, absl::Time until);
  // Ends the pins that last until `now` or less.
  void ExpirePins(absl::Time now);
  absl::Time NextPinEnd() const;
  // Ends pins of the device, `count` at most, those first that would end first; none of `spare`.
  Blocks YieldPins(Blocks count, const KvMatch& spare = {});
  // Usable blocks of the match that are pinned on the device.
  Blocks PinnedInUse(const KvMatch& match) const;

  // Whether any block of the match is on its way to the device or the host.
  bool Moving(const KvMatch& match) const;
  // Whether anything is staged, prefetched or stored now, for anybody.
  bool AnyMoving() const { return staging_ + prefetching_ + storing_ > Blocks(0); }
  // Plans stores of matched blocks that are on the device and not on the host, whatever the gates
  // say. Evicts for them, but none of the match. Returns how many; fewer if there is no room or too
  // many are under way.
  Blocks StoreAhead(const KvMatch& match);

  // Drops copies that nobody uses or moves from the tiers named. O(nodes.size()).
  KvEviction Evict(std::span<const NodeId> nodes, const KvEvictionOptions& options);
  // The same for the first `count` blocks of a prompt and for all that continues them. Leading
  // blocks that other prompts begin with are kept. O(nodes). REQUIRES: the path covers `count`.
  KvEviction EvictPrompt(const TokenPath& path, Blocks count, const KvEvictionOptions& options);
  // All nodes; those of one salt. O(nodes).
  std::vector<NodeId> NodesWith(std::optional<uint64_t> salt) const;

  // --- Gates and numbers ---

  // See BlockPool::set_now().
  void set_now(absl::Time now) {
    for (BlockPool* pool : {&device_, &host_, &disk_}) pool->set_now(now);
  }

  // From now on; see KvCacheOptions. kNeverStore: only sequences that return are stored.
  void set_min_hits_to_store(int hits) { options_.min_hits_to_store = hits; }
  void set_min_hits_to_spill(int hits) { options_.min_hits_to_spill = hits; }
  // From now on; blocks being stored at a time.
  void set_max_store_blocks(Blocks blocks) { options_.max_store_blocks = blocks; }

  // Share of host copies that are used before they leave the host, of late. 1 before there is any
  // experience.
  double store_reuse() const { return store_reuse_; }

  const BlockPool& device() const { return device_; }
  const BlockPool& host() const { return host_; }
  const BlockPool& disk() const { return disk_; }
  const PrefixIndex& index() const { return index_; }
  const Counters& counters() const { return counters_; }
  Blocks reserved() const { return reserved_; }
  // Device blocks that can be promised.
  Blocks available() const { return device_.free() + device_.cached() - reserved_; }

  // --- Events (KvCacheOptions::events) ---

  // What has happened since the last call; nothing if events are off.
  KvEvents TakeEvents();
  // All blocks that are here, as events kStored in any order: with the events from now on, what
  // somebody needs who knows nothing yet. O(nodes). REQUIRES: TakeEvents() has been called since
  // the cache changed.
  KvEvents ListBlocks() const;

  // A sequence that did not fit fits no sooner than one of these changes:
  // the room, or
  int64_t room_epoch() const { return room_epoch_; }
  // what a match finds: it may have become longer or nearer, or no longer have anything pending.
  int64_t content_epoch() const { return content_epoch_; }

  // Returns INTERNAL naming the first broken invariant. `leases`: all there are.
  // O(blocks + nodes).
  absl::Status CheckInvariants(std::span<const KvLease* const> leases) const;

 private:
  // A copy planned or under way and the nodes it concerns, one per block pair. While it is not
  // revoked, node.load or the target's owner names it; afterwards its targets belong to no node.
  struct CopyRecord {
    LinkDirection direction = LinkDirection::kHostToDevice;
    std::vector<Copy::Pair> blocks;
    std::vector<NodeId> nodes;
    int32_t users = 0;  // leases that list it
    bool prefetch = false;
    bool given_out = false;
    bool revoked = false;
  };
  // What KvUse comes to for one match: blocks [0, used) without [gap_begin, gap_end).
  struct Extent {
    size_t used = 0;
    size_t gap_begin = 0;
    size_t gap_end = 0;
  };
  // Sums over used blocks; see KvMatch.
  struct Tally {
    Blocks shared;
    Blocks in_transit;
    Blocks host_only;
  };
  enum class StoreReason : uint8_t { kSeen, kRetry, kReturns };
  // A copy that grows until TakeCopies(), and its record in copies_.
  struct Batch {
    Copy copy;
    CopyRecord* record = nullptr;
  };
  struct SpillCandidate {
    NodeId node;
    BlockId host;
  };

  // --- kv_match.cc ---
  // The node of block `i` of the path, whose block before has node `parent`.
  NodeId FindBlock(const TokenPath& path, NodeId parent, size_t i);
  void TallyBlock(const PrefixIndex::Node& node, Tally* tally) const;
  Tally TallyUsed(const KvMatch& match, size_t used) const;
  Extent Resolve(const KvMatch& match, const KvUse& use) const;

  // --- kv_admission.cc ---
  void HoldUsed(const KvMatch& match, const Extent& extent, const KvUse& use, KvLease* lease,
                KvAdmission* admission);
  void JoinLoad(CopyId load, bool before_gap, KvLease* lease);
  void FillBlocks(const KvMatch& match, const Extent& extent, const KvUse& use, RequestId request,
                  KvLease* lease, KvAdmission* admission);
  void NoteUse(const KvMatch& match, const Extent& extent, KvAdmission* admission);

  // --- kv_publish.cc ---
  BlockId TakeReserved(KvLease* lease);
  void MoveTip(NodeId node, KvLease* lease);
  void Offer(NodeId id, BlockId block);
  void OfferGap(size_t count, KvLease* lease);
  void DropClaim(NodeId id);
  void DropClaims(KvLease* lease);

  // --- kv_eviction.cc ---
  void EvictDevice();
  void EvictHost();
  void EvictDisk();
  // Forget a copy: the block belongs to no node any more.
  void DropDevice(NodeId id);
  void DropHost(NodeId id);
  void DropDisk(NodeId id);
  // Counts a sighting of the node's block.
  void See(NodeId id);
  // Brings the worth of the node's copies up to date.
  void Revalue(NodeId id);
  void NoteStoreOutcome(bool used);
  // Tells that the node's block has come or gone, if it has. After every change to its copies.
  void Tell(NodeId id);
  void AddStored(NodeId id, KvEvents* events) const;

  // --- kv_stores.cc ---
  void TryStore(NodeId id, StoreReason reason);
  // REQUIRES: the host has room, free or cached; the block may become busy.
  void QueueStore(NodeId id);
  bool PassesStoreGate(const PrefixIndex::Node& node, StoreReason reason);
  void QueueSpill(NodeId id);
  void PlanSpills();
  bool TrySpill(NodeId id);
  void EndStore(const CopyRecord& record, const std::vector<bool>& good);
  // `good[i]`: block i is in place.
  void EndSpill(const CopyRecord& record, const std::vector<bool>& good);

  // --- kv_control.cc ---
  // The next four: kDevice and kHost only, but for BlockOn() and PoolOf(), which know the disk.
  Pins& PinsOf(Tier tier) { return pins_[tier == Tier::kHost ? 1 : 0]; }
  const Pins& PinsOf(Tier tier) const { return pins_[tier == Tier::kHost ? 1 : 0]; }
  BlockPool& PoolOf(Tier tier) {
    return tier == Tier::kDevice ? device_ : tier == Tier::kHost ? host_ : disk_;
  }
  const BlockPool& PoolOf(Tier tier) const {
    return tier == Tier::kDevice ? device_ : tier == Tier::kHost ? host_ : disk_;
  }
  BlockId BlockOn(NodeId id, Tier tier) const {
    const PrefixIndex::Node& node = index_.node(id);
    return tier == Tier::kDevice ? node.device : tier == Tier::kHost ? node.host : node.disk;
  }
  void Unpin(NodeId id, Tier tier);
  bool PinnedLoad(const CopyRecord& record) const;
  void EvictFrom(NodeId id, Tier tier, bool pinned, KvEviction* result);
  std::vector<NodeId> NodesBehind(NodeId ancestor) const;

  // --- kv_adoption.cc ---
  void PlaceOnDisk(NodeId id, BlockId slot);
  // Takes a slot for a block found. Invalid: there is no room.
  BlockId TakeSlot();

  // --- kv_copies.cc ---
  Copy NewCopy(LinkDirection direction, CopyClass copy_class, RequestId request, int64_t rank);
  // Makes a copy known that has its blocks; `record` its nodes and everything but the blocks.
  void Plan(Copy copy, CopyRecord record);
  void AddToBatch(NodeId id, const Copy::Pair& pair, LinkDirection direction,
                  std::optional<Batch>* batch);
  void AddLoad(NodeId id, BlockId target, Copy* copy, CopyRecord* record);
  void AddStaging(NodeId id, Copy* copy, CopyRecord* record);
  void HoldOnDevice(const KvMatch& match);
  void ReleaseOnDevice(const KvMatch& match);
  void HoldOnHost(const KvMatch& match);
  void ReleaseOnHost(const KvMatch& match);
  void RevokeCopy(CopyId copy);
  void EndCopy(const CopyRecord& record, CopyOutcome outcome, std::span<const int32_t> failed);
  void EndLoad(const CopyRecord& record, CopyOutcome outcome);
  void EndRevokedLoad(const CopyRecord& record, CopyOutcome outcome);
  void EndStaging(const CopyRecord& record, CopyOutcome outcome, const std::vector<bool>& good);

  // --- kv_cache_invariants.cc ---
  absl::Status CheckLeases(std::span<const KvLease* const> leases) const;
  absl::Status CheckNodes(std::span<const KvLease* const> leases) const;
  absl::Status CheckOwners() const;
  absl::Status CheckPins() const;
  absl::Status CheckCopies(std::span<const KvLease* const> leases) const;
  absl::Status CheckBlocks(std::span<const KvLease* const> leases) const;
  bool Agrees(CopyId id, const CopyRecord& record, size_t i) const;

  KvCacheOptions options_;  // constant but for the two gates and max_store_blocks
  BlockPool device_;
  BlockPool host_;
  BlockPool disk_;
  PrefixIndex index_;
  Sightings sightings_;
  Blocks reserved_;
  std::array<Pins, 2> pins_;  // of the device, of the host

  std::map<CopyId, CopyRecord> copies_;  // planned or under way
  std::vector<Copy> planned_;            // loads and stagings
  std::optional<Batch> planned_store_;
  std::optional<Batch> planned_spill_;
  std::deque<SpillCandidate> spill_queue_;  // at most as many as host blocks; some outdated
  std::vector<CopyId> revoked_;             // not told yet
  CopyId next_copy_{0};
  // Blocks of copies under way.
  Blocks storing_;
  Blocks spilling_;
  Blocks staging_;
  Blocks prefetching_;
  bool spilling_allowed_ = true;

  int64_t room_epoch_ = 0;
  int64_t content_epoch_ = 0;
  double store_reuse_ = 1;
  Counters counters_;
  KvEvents events_;
  // Scratch of VictimsNeeded(), per device block, zero between calls.
  std::vector<int32_t> dropped_;
  std::vector<uint8_t> wanted_;
};

}  // namespace sluice
