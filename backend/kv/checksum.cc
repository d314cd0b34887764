#include "backend/kv/checksum.h"

#include "backend/kv/checksum_kernels.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {
namespace {

using Kernel = uint64_t (*)(const void* bytes, size_t count, uint64_t seed);

uint64_t ChecksumAnywhere(const void* bytes, size_t count, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes, count, seed);
}

Kernel Choose() {
#ifdef SLUICE_CHECKSUM_X86
  if (__builtin_cpu_supports("avx512f")) return &ChecksumAvx512;
  if (__builtin_cpu_supports("avx2")) return &ChecksumAvx2;
#endif
  return &ChecksumAnywhere;
}

}  // namespace

uint64_t KvChecksum(std::span<const std::byte> bytes, uint64_t seed) {
  static const Kernel kernel = Choose();
  return kernel(bytes.data(), bytes.size(), seed);
}

}  // namespace sluice
