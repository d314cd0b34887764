// Chance as a pure function: the same numbers in give the same draw, on every machine and in every
// order. Hence failures, noise and tokens of a simulation do not depend on what ran before.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace sluice {

// A 64-bit digest of three numbers: SplitMix64's finalizer (Steele, Lea, Flood 2014) over each.
constexpr uint64_t Mix(uint64_t seed, uint64_t stream, uint64_t index) {
  uint64_t digest = seed;
  for (const uint64_t word : {stream, index}) {
    digest += 0x9E3779B97F4A7C15U + word;
    digest = (digest ^ (digest >> 30)) * 0xBF58476D1CE4E5B9U;
    digest = (digest ^ (digest >> 27)) * 0x94D049BB133111EBU;
    digest ^= digest >> 31;
  }
  return digest;
}

// Uniform in [0, 1).
constexpr double UniformOf(uint64_t digest) {
  return static_cast<double>(digest >> 11) * 0x1.0p-53;
}

}  // namespace sluice
