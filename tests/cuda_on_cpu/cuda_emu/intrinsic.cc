#include "cuda_emu/intrinsic.h"

namespace cuda_emu {

float Perturb(float value) {
  if (!std::isfinite(value) || value == 0) return value;
  uint64_t hash = std::bit_cast<uint32_t>(value) * 0x9e3779b97f4a7c15ull;
  hash ^= hash >> 32;
  const int span = 2 * approximation_ulps + 1;
  const int steps = static_cast<int>(hash % static_cast<uint64_t>(span)) - approximation_ulps;
  const uint32_t bits = std::bit_cast<uint32_t>(value) + static_cast<uint32_t>(steps);
  const float moved = std::bit_cast<float>(bits);
  // Not across zero or into infinity.
  return std::isfinite(moved) && std::signbit(moved) == std::signbit(value) ? moved : value;
}

}  // namespace cuda_emu
