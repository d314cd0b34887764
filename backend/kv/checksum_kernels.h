// XXH3-64 with a seed, compiled once per instruction set; checksum.cc chooses. These files include
// nothing else: an inline function compiled for a newer processor could be linked for all.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice {

uint64_t ChecksumAvx2(const void* bytes, size_t count, uint64_t seed);
uint64_t ChecksumAvx512(const void* bytes, size_t count, uint64_t seed);

}  // namespace sluice
