// Names for KV blocks. A block's hash covers its own tokens and, through its parent's hash, every
// token before them, so equal hashes mean equal prefixes, up to collisions. Whoever looks a hash up
// compares the tokens too (scheduler/kv/prefix_index.h): a collision may cost a hit, never serve
// another prompt's KV.
//
// XXH3-128 (Collet, xxHash 0.8) over the bytes in memory: the values differ between little- and
// big-endian machines and are not a wire format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "scheduler/base/units.h"

namespace sluice {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;

  friend constexpr bool operator==(const Hash128&, const Hash128&) = default;
};

// For hash maps: the value is uniform already, so half of it does.
struct Hash128Hasher {
  size_t operator()(const Hash128& hash) const { return static_cast<size_t>(hash.low); }
};

// The parent of a prompt's first block. `seed` tells models and layouts apart, `salt` tenants.
Hash128 RootHash(uint64_t seed, uint64_t salt);

// The hash of a block with these tokens that follows `parent`.
// About 25 ns for 32 tokens.
Hash128 BlockHash(const Hash128& parent, std::span<const TokenId> tokens);

// BlockHash or a stand-in for it; must be a pure function.
using BlockHashFunction = Hash128 (*)(const Hash128& parent, std::span<const TokenId> tokens);

}  // namespace sluice
