#include "cuda_emu/small_float.h"

#include <cmath>
#include <limits>

namespace cuda_emu {
namespace {
constexpr uint32_t kMagnitude = 0x7fffffffu;
constexpr uint32_t kInfinity = 0x7f800000u;
constexpr uint32_t kNan = 0x7fffffffu;  // CUDA's only one
}  // namespace

uint32_t EncodeMagnitude(float magnitude, const MiniFormat& format) {
  if (magnitude == 0) return 0;
  const double value = magnitude;
  const int smallest = 1 - format.bias;  // exponent of the smallest normal number
  int exponent = std::ilogb(value);
  if (exponent < smallest) exponent = smallest;
  // The scaling is exact; nearbyint rounds to nearest even in the default mode.
  double steps = std::nearbyint(std::ldexp(value, format.mantissa_bits - exponent));
  if (steps >= std::ldexp(1.0, format.mantissa_bits + 1)) {
    ++exponent;
    steps = std::ldexp(1.0, format.mantissa_bits);
  }
  const auto whole = static_cast<uint32_t>(steps);
  const uint32_t one = 1u << format.mantissa_bits;
  if (whole < one) return whole;  // subnormal
  return static_cast<uint32_t>(exponent + format.bias) << format.mantissa_bits | (whole - one);
}

float DecodeMagnitude(uint32_t code, const MiniFormat& format) {
  const uint32_t one = 1u << format.mantissa_bits;
  const uint32_t mantissa = code & (one - 1);
  const int exponent = static_cast<int>(code >> format.mantissa_bits);
  if (exponent == 0) {
    return std::ldexp(static_cast<float>(mantissa), 1 - format.bias - format.mantissa_bits);
  }
  return std::ldexp(static_cast<float>(mantissa | one),
                    exponent - format.bias - format.mantissa_bits);
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & kMagnitude;
  if (magnitude > kInfinity) return 0x7fff;
  const uint32_t sign = bits >> 16 & 0x8000u;
  if (magnitude == kInfinity) return static_cast<uint16_t>(sign | kHalf.overflow);
  const uint32_t code = EncodeMagnitude(std::bit_cast<float>(magnitude), kHalf);
  return static_cast<uint16_t>(sign | (code > kHalf.largest ? kHalf.overflow : code));
}

float HalfToFloat(uint16_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x8000u) << 16;
  const uint32_t magnitude = code & 0x7fffu;
  if (magnitude > kHalf.overflow) return std::bit_cast<float>(kNan);
  if (magnitude == kHalf.overflow) return std::bit_cast<float>(sign | kInfinity);
  if (magnitude >= 0x0400u) {  // normal: shift, and move the bias from 15 to 127
    return std::bit_cast<float>(sign | ((magnitude + (112u << 10)) << 13));
  }
  const float value = DecodeMagnitude(magnitude, kHalf);
  return sign != 0 ? -value : value;
}

uint8_t FloatToFp8(float value, const MiniFormat& format, bool clamp) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & kMagnitude;
  if (magnitude > kInfinity) return 0x7f;
  uint32_t code = magnitude == kInfinity ? format.largest + 1
                                         : EncodeMagnitude(std::bit_cast<float>(magnitude), format);
  if (code > format.largest) code = clamp ? format.largest : format.overflow;
  return static_cast<uint8_t>((bits >> 24 & 0x80u) | code);
}

float Fp8ToFloat(uint8_t code, const MiniFormat& format) {
  const uint32_t magnitude = code & 0x7fu;
  float value = 0;
  if (magnitude <= format.largest) {
    value = DecodeMagnitude(magnitude, format);
  } else if (magnitude == format.overflow && format.mantissa_bits == kE5M2.mantissa_bits) {
    value = std::numeric_limits<float>::infinity();
  } else {
    value = std::numeric_limits<float>::quiet_NaN();
  }
  return (code & 0x80u) != 0 ? -value : value;
}

}  // namespace cuda_emu
