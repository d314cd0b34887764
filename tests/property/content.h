// What the worlds of property tests share: values that stand for the content of memory, and hashes
// that collide.
#pragma once

#include <cstdint>
#include <span>

#include "scheduler/base/hash.h"

namespace sluice::testing {

// Content nobody may read.
inline constexpr uint64_t kGarbage = 0;

// A running digest; never kGarbage.
inline uint64_t MixContent(uint64_t h, uint64_t value) {
  h = (h ^ value) * 0x9E3779B97F4A7C15ULL;
  return (h ^ (h >> 29)) | 1;
}

// Block hashes that collide all the time.
template <uint64_t kMask>
Hash128 WeakHash(const Hash128& parent, std::span<const TokenId> tokens) {
  return {BlockHash(parent, tokens).low & kMask, 0};
}

}  // namespace sluice::testing
