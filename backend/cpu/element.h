// Element: what weights, KV and matrix inputs are stored as. Sums are always float.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace sluice {

enum class Element : uint8_t { kF32, kBF16 };

constexpr int64_t ElementBytes(Element e) { return e == Element::kF32 ? 4 : 2; }

constexpr float BF16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// Round to nearest, ties to even. A NaN stays a NaN.
constexpr uint16_t FloatToBF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace sluice
