#include "scheduler/base/hash.h"

#include <array>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {
namespace {

Hash128 FromXxh(const XXH128_hash_t& hash) { return {hash.low64, hash.high64}; }

}  // namespace

Hash128 RootHash(uint64_t seed, uint64_t salt) {
  const std::array<uint64_t, 2> input = {seed, salt};
  return FromXxh(XXH3_128bits(input.data(), sizeof(input)));
}

Hash128 BlockHash(const Hash128& parent, std::span<const TokenId> tokens) {
  // One shot over a small buffer is several times faster than the streaming interface.
  constexpr size_t kMaxBufferedTokens = 256;
  std::array<unsigned char, sizeof(Hash128) + kMaxBufferedTokens * sizeof(TokenId)> buffer;
  if (tokens.size() <= kMaxBufferedTokens) {
    std::memcpy(buffer.data(), &parent, sizeof(parent));
    if (!tokens.empty()) {
      std::memcpy(buffer.data() + sizeof(parent), tokens.data(), tokens.size_bytes());
    }
    return FromXxh(XXH3_128bits(buffer.data(), sizeof(parent) + tokens.size_bytes()));
  }
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, &parent, sizeof(parent));
  XXH3_128bits_update(&state, tokens.data(), tokens.size_bytes());
  return FromXxh(XXH3_128bits_digest(&state));
}

}  // namespace sluice
