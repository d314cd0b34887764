// bf16, fp16 and fp8 under their CUDA names: storage, conversions, nothing else. Arithmetic happens
// in float, as in our kernels.
//
// The rounding is round to nearest even; NaN becomes CUDA's canonical NaN. All 2^32 floats through
// the encoders and all codes through the decoders equal cuda_bf16.h, cuda_fp16.h and cuda_fp8.h of
// CUDA 13.0; float_probe repeats the comparison on a sample where a toolkit is installed.
#pragma once

#include <bit>
#include <cstdint>

#include "cuda_emu/types.h"

namespace cuda_emu {

// A float format of one sign bit, exponent and mantissa, with subnormals.
struct MiniFormat {
  int mantissa_bits;
  int bias;
  uint32_t largest;   // code of the largest finite magnitude
  uint32_t overflow;  // code of a magnitude that is too large, when values are not clamped
};
inline constexpr MiniFormat kHalf{10, 15, 0x7bff, 0x7c00};
inline constexpr MiniFormat kE4M3{3, 7, 0x7e, 0x7f};
inline constexpr MiniFormat kE5M2{2, 15, 0x7b, 0x7c};

// The code of `magnitude`, a finite number >= 0, rounded to nearest even; may be above
// format.largest.
uint32_t EncodeMagnitude(float magnitude, const MiniFormat& format);
// The number that a code without sign stands for. REQUIRES: code <= format.largest.
float DecodeMagnitude(uint32_t code, const MiniFormat& format);

uint16_t FloatToHalf(float value);
float HalfToFloat(uint16_t code);
uint8_t FloatToFp8(float value, const MiniFormat& format, bool clamp);
float Fp8ToFloat(uint8_t code, const MiniFormat& format);

inline uint16_t FloatToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline float Bfloat16ToFloat(uint16_t code) {
  return std::bit_cast<float>(static_cast<uint32_t>(code) << 16);
}

}  // namespace cuda_emu

// NOLINTBEGIN(bugprone-reserved-identifier,google-explicit-constructor)
struct __nv_bfloat16_raw {
  unsigned short x;
};
struct __nv_bfloat16 {
  unsigned short __x;
  __nv_bfloat16() = default;
  constexpr __nv_bfloat16(__nv_bfloat16_raw raw) : __x(raw.x) {}
  __nv_bfloat16(float value) : __x(cuda_emu::FloatToBfloat16(value)) {}
  operator __nv_bfloat16_raw() const { return {__x}; }
  operator float() const { return cuda_emu::Bfloat16ToFloat(__x); }
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline __nv_bfloat16 __float2bfloat16(float value) { return {value}; }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {value}; }
inline float __bfloat162float(__nv_bfloat16 value) { return value; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.__x; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16_raw{bits}; }

struct __half_raw {
  unsigned short x;
};
struct __half {
  unsigned short __x;
  __half() = default;
  constexpr __half(__half_raw raw) : __x(raw.x) {}
  __half(float value) : __x(cuda_emu::FloatToHalf(value)) {}
  operator __half_raw() const { return {__x}; }
  operator float() const { return cuda_emu::HalfToFloat(__x); }
};
struct alignas(4) __half2 {
  __half x, y;
};
struct alignas(4) __half2_raw {
  unsigned short x, y;
};
using half = __half;
using half2 = __half2;

inline __half __float2half(float value) { return {value}; }
inline __half __float2half_rn(float value) { return {value}; }
inline float __half2float(__half value) { return value; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 v) { return {v.x, v.y}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline unsigned short __half_as_ushort(__half value) { return value.__x; }
inline __half __ushort_as_half(unsigned short bits) { return __half_raw{bits}; }

using __nv_fp8_storage_t = unsigned char;
using __nv_fp8x2_storage_t = unsigned short;
enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };
enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };

namespace cuda_emu {
constexpr const MiniFormat& Fp8Format(__nv_fp8_interpretation_t kind) {
  return kind == __NV_E4M3 ? kE4M3 : kE5M2;
}
}  // namespace cuda_emu

inline __nv_fp8_storage_t __nv_cvt_float_to_fp8(float value, __nv_saturation_t saturation,
                                                __nv_fp8_interpretation_t kind) {
  return cuda_emu::FloatToFp8(value, cuda_emu::Fp8Format(kind), saturation == __NV_SATFINITE);
}
inline __nv_fp8x2_storage_t __nv_cvt_float2_to_fp8x2(float2 v, __nv_saturation_t saturation,
                                                     __nv_fp8_interpretation_t kind) {
  return static_cast<__nv_fp8x2_storage_t>(__nv_cvt_float_to_fp8(v.x, saturation, kind) |
                                           __nv_cvt_float_to_fp8(v.y, saturation, kind) << 8);
}
inline __half_raw __nv_cvt_fp8_to_halfraw(__nv_fp8_storage_t code, __nv_fp8_interpretation_t kind) {
  return {cuda_emu::FloatToHalf(cuda_emu::Fp8ToFloat(code, cuda_emu::Fp8Format(kind)))};
}
inline __half2_raw __nv_cvt_fp8x2_to_halfraw2(__nv_fp8x2_storage_t codes,
                                              __nv_fp8_interpretation_t kind) {
  return {__nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(codes & 0xff), kind).x,
          __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(codes >> 8), kind).x};
}

namespace cuda_emu {
template <__nv_fp8_interpretation_t kKind>
struct Fp8 {
  __nv_fp8_storage_t __x;
  Fp8() = default;
  explicit Fp8(float value) : __x(FloatToFp8(value, Fp8Format(kKind), true)) {}
  explicit operator float() const { return Fp8ToFloat(__x, Fp8Format(kKind)); }
};
}  // namespace cuda_emu
using __nv_fp8_e4m3 = cuda_emu::Fp8<__NV_E4M3>;
using __nv_fp8_e5m2 = cuda_emu::Fp8<__NV_E5M2>;
// NOLINTEND(bugprone-reserved-identifier,google-explicit-constructor)
