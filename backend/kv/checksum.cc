#include "backend/kv/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {

uint64_t KvChecksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace sluice
