// Scales of the KV codecs: bf16 numbers, chosen so that the largest number of a group fits.
#pragma once

#include <bit>
#include <cstdint>

#include "backend/kv/codec_kernels.h"

namespace sluice {

inline constexpr int32_t kInt8Top = 127;  // codes -127..127
inline constexpr int32_t kInt4Top = 15;   // codes 0..15

// Bits of |x| as a float above which a group is refused: larger, infinite or not a number.
inline constexpr uint32_t kCodecLimitBits = std::bit_cast<uint32_t>(kKvCodecLimit);

// The upper half of a float that is a bf16 number, and back.
constexpr uint16_t UpperHalf(float bf16) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(bf16) >> 16);
}
constexpr float FromUpperHalf(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace sluice
