#include "backend/kv/checksum_kernels.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {

uint64_t ChecksumAvx2(const void* bytes, size_t count, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes, count, seed);
}

}  // namespace sluice
