// splitmix64 (Steele, Lea, Flood 2014): small, seedable, the same everywhere.
#pragma once

#include <cstdint>

namespace cuda_emu {

inline uint64_t NextRandom(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// A random order of v.
template <class Vector>
void Shuffled(Vector* v, uint64_t* state) {
  for (size_t i = v->size(); i > 1; --i) std::swap((*v)[i - 1], (*v)[NextRandom(state) % i]);
}

}  // namespace cuda_emu
