// What people ask of the KV cache: prompts to be warmed, blocks to be dropped. Plain data of
// Scheduler::Warm() and Evict().
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

using WarmId = Id<struct WarmIdTag>;

// Bring what is cached of a prompt to a tier, and keep it there for a while.
struct WarmSpec {
  WarmId id;  // unique among those under way
  std::vector<TokenId> tokens;
  uint64_t cache_salt = 0;
  Tier tier = Tier::kDevice;  // kDevice or kHost
  // From when it arrives, or from when it was found there; 0: not pinned.
  absl::Duration pin;
  // It ends then, with what has arrived by then.
  absl::Time deadline = absl::InfiniteFuture();
};

// The end of a Warm(). ready + elsewhere + missing = tokens of the spec.
struct WarmResult {
  WarmId id;
  Tokens ready;      // leading tokens whose KV is on the tier
  Tokens elsewhere;  // of the others, those whose KV is cached: no room, or no time
  Tokens missing;    // the rest; at least those behind the last full block
  Tokens pinned;
  absl::Time pinned_until = absl::InfinitePast();
  bool in_time = true;  // false: the deadline has passed
};

// Which cached KV to drop, and from where. What a request uses, or a copy reads or writes, stays.
struct EvictSpec {
  // Set: only this prompt and what continues it; blocks that other prompts begin with are kept.
  std::optional<std::vector<TokenId>> prompt;
  // Set: only blocks of this salt. REQUIRES: set if `prompt` is.
  std::optional<uint64_t> cache_salt;
  std::array<bool, kTierCount> tiers = {true, true, true, true};
  bool pinned = false;  // pinned blocks, too: their pins end
};

struct EvictResult {
  // Blocks, by tier.
  struct Count {
    Blocks dropped;
    Blocks in_use;  // kept
    Blocks pinned;  // kept
  };
  std::array<Count, kTierCount> tiers{};
  Blocks shared;  // of the prompt, kept: other prompts begin with them, too
  // Slots of the disk tier that hold nothing any more: whoever keeps the bytes forgets them, before
  // any later copy.
  std::vector<BlockId> disk_slots;
};

}  // namespace sluice
