// Values that go into and come out of KvCache: what a prompt's cached part looks like (KvMatch),
// how much of it an admission uses (KvUse), and what an admitted sequence holds (KvLease).
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"
#include "scheduler/kv/block_pool.h"
#include "scheduler/kv/prefix_index.h"
#include "scheduler/step.h"

namespace sluice {

// Which cached block goes first when room is needed.
enum class EvictionOrder : uint8_t {
  kLru,    // the least recently used
  kValue,  // cheap ones first, unless used much more recently: see BlockPool
};

// A gate that nothing passes.
inline constexpr int kNeverStore = std::numeric_limits<int>::max();

struct KvCacheOptions {
  Tokens tokens_per_block{32};
  Blocks device_blocks{0};
  Blocks host_blocks{0};       // 0: no host tier
  Blocks max_store_blocks{0};  // blocks being stored at a time; 0: never store
  bool prefix_caching = true;  // off: nothing is matched, published or stored

  Blocks disk_blocks{0};            // 0: no disk tier; it needs a host tier
  Blocks max_stage_blocks{256};     // blocks being read from the disk at a time
  Blocks max_spill_blocks{64};      // blocks being written to the disk at a time; 0: never
  Blocks max_prefetch_blocks{256};  // blocks being loaded ahead of need at a time

  // A block is stored on the host / written to the disk when it is seen for the n-th time; 0 and 1:
  // at once. Sightings are remembered for a while after a block is gone.
  int min_hits_to_store = 0;
  int min_hits_to_spill = 0;

  EvictionOrder eviction = EvictionOrder::kLru;

  // Most of the device and of the host pool that may be pinned, [0, 1].
  double max_pinned_share = 0.5;

  // Collect KvEvents; whoever turns this on takes them (KvCache::TakeEvents). Costs a copy of the
  // tokens of every block that is stored.
  bool events = false;
};

// Tokens as the index sees them: the tokens of a sequence and the hashes of its full blocks.
struct TokenPath {
  std::span<const TokenId> tokens;
  std::span<const Hash128> hashes;  // of blocks 0, 1, …; at least as many as the call needs
  uint64_t salt = 0;
  // If not null: what earlier look-ups of these tokens found, one per leading block, kept with the
  // tokens, which only grow. With it, what was compared once is not compared again.
  std::vector<PrefixIndex::Ticket>* known = nullptr;
};

// What the cache holds of a sequence, from its start on. Good until the cache changes.
struct KvMatch {
  std::vector<NodeId> nodes;  // leading blocks with a copy on some tier, one per block

  // Where these are, nearest tier first. They sum to nodes.size(); in any order along the prompt.
  Blocks on_device;  // there
  Blocks on_host;    // on the host, or on the way from there to the device
  Blocks on_disk;    // on the disk only, or on the way from there to the host

  // What an admission could use now: leading blocks [0, usable) are on the device, on the way to
  // it, or on the host. The next one, if any, must be staged first.
  Blocks usable;
  Blocks shared;      // of these, on the device and not evictable: they cost no room
  Blocks in_transit;  // of `shared`, those that become evictable when a copy ends
  Blocks host_only;   // of these, on the host and not on the way to the device

  // Blocks after `nodes` that admitted sequences are computing right now, and cached ones right
  // behind them: whoever waits will find them. Those sequences may fail, though.
  Blocks pending;
};

// How an admission uses what was matched. The default: all that is usable, loaded if need be.
struct KvUse {
  // Leading blocks that are used; the rest is computed. Cut at KvMatch::usable.
  Blocks use{std::numeric_limits<int64_t>::max()};
  // Blocks on the host only that are computed again while later ones are loaded: the first so many,
  // up to the next block on the device. They are the gap of the lease. REQUIRES: 0 if `in_place`.
  Blocks recompute{0};
  // Blocks on the host only stay there and take no device block.
  bool in_place = false;
  // Copy::rank of the load.
  int64_t rank = 0;
};

// What one admitted sequence holds.
struct KvLease {
  // Device blocks in token order; an invalid id: the block is attended to in place. Does not
  // reallocate before Release().
  std::vector<BlockId> blocks;
  // Empty, or one entry per leading block: the host block where `blocks` has none, else invalid.
  // Neither moved, evicted nor written before Release().
  std::vector<BlockId> host_blocks;
  std::vector<NodeId> nodes;  // of the leading blocks: used ones, published ones, claimed ones
  Blocks reserved;            // device blocks still to be taken by Grow()
  std::vector<CopyId> loads;  // copies that fill some of `blocks`, perhaps under way

  // Blocks [gap_begin, gap_end) are held but empty: the sequence computes them first, then goes on
  // at block `published`. Equal: no gap.
  Blocks gap_begin;
  Blocks gap_end;
  Blocks gap_published;           // blocks [gap_begin, gap_published) have been offered
  std::vector<CopyId> gap_loads;  // of `loads`, those that fill blocks before the gap

  Blocks published;        // blocks [0, published) without the gap have been offered to the index
  Blocks claimed;          // blocks [published, claimed) are announced as being computed
  NodeId tip;              // node of the last published block; pinned
  bool publishing = true;  // false after a hash collision: later blocks stay private
};

// Where the blocks of an admission came from. device + host + gap = blocks used.
struct KvAdmission {
  Blocks device;     // were on the device
  Blocks host;       // came, or are coming, from the host, or are attended to there
  Blocks from_disk;  // of `host`, those that were staged from the disk and not used since
  Blocks in_place;   // of `host`, those attended to on the host
  Blocks gap;        // are on the host, but computed again
  CopyId load;       // the copy made for this admission; invalid if none
  Blocks loaded;     // its size
};

// What KvCache::Evict() may touch, and what it did.
struct KvEvictionOptions {
  std::array<bool, kTierCount> tiers = {true, true, true, true};
  bool pinned = false;  // pins of these blocks end first
};
struct KvEviction {
  struct Count {
    Blocks dropped;
    Blocks in_use;  // kept: used by a request, or being copied
    Blocks pinned;  // kept
  };
  std::array<Count, kTierCount> tiers{};
  Blocks shared;                    // of the prompt, kept: other prompts begin with them, too
  std::vector<BlockId> disk_slots;  // that hold nothing any more
};

// How a copy ended.
enum class CopyOutcome : uint8_t {
  kOk,
  kFailed,
  kRevoked,  // was revoked in time: the source is fine, the target holds nothing
};

}  // namespace sluice
