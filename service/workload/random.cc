#include "service/workload/random.h"

#include <cmath>

namespace sluice {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15U;  // 2^64 / golden ratio: splitmix64's step

uint64_t RotateLeft(uint64_t x, unsigned bits) { return (x << bits) | (x >> (64U - bits)); }

}  // namespace

uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31U);
}

Random::Random(uint64_t seed) : state_() {
  for (uint64_t& word : state_) word = MixBits(seed += kGolden);
}

uint64_t Random::Bits() {
  const uint64_t result = RotateLeft(state_[1] * 5, 7) * 9;
  const uint64_t shifted = state_[1] << 17U;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = RotateLeft(state_[3], 45);
  return result;
}

double Random::Unit() { return static_cast<double>(Bits() >> 11U) * 0x1.0p-53; }

uint64_t Random::Below(uint64_t n) { return Bits() % n; }

double Random::Exponential(double mean) { return -mean * std::log1p(-Unit()); }

}  // namespace sluice
