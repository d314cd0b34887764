// Random numbers that are the same on every compiler and standard library: xoshiro256** (Blackman
// and Vigna 2021) seeded by splitmix64 (Steele et al. 2014), and the few distributions needed here.
// The standard library's distributions differ between implementations.
#pragma once

#include <array>
#include <cstdint>

namespace sluice {

class Random {
 public:
  explicit Random(uint64_t seed);

  uint64_t Bits();
  double Unit();               // [0, 1), 53 bits
  uint64_t Below(uint64_t n);  // [0, n); REQUIRES: n >= 1. Bias below n / 2^64
  double Exponential(double mean);

 private:
  std::array<uint64_t, 4> state_;
};

// Mixes the bits of `x` (the finalizer of splitmix64): a bijection.
uint64_t MixBits(uint64_t x);

}  // namespace sluice
