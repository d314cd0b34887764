// quantized.cuh: 8-bit KV codes to floats and back, as backend/kv/kv_codec.h defines them. For
// kernel sources only.
#pragma once

#include "backend/cuda/kernels/half.cuh"

namespace sluice::cuda {

// What a code stands for in units of its scale. E4M3 becomes a float by placing exponent and
// mantissa where a float has them, 2^120 too small; subnormals come out right as well.
__device__ __forceinline__ float CodeValue(uint32_t code, KvType type) {
  if (type == KvType::kInt8) return static_cast<float>(static_cast<int8_t>(code));
  return __uint_as_float(((code & 0x80u) << 24) | ((code & 0x7fu) << 20)) * 0x1p120F;
}

// Four codes of a word, times `scale`, as two words of halves.
template <class Half>
__device__ __forceinline__ uint2 Dequantize4(uint32_t codes, float scale, KvType type) {
  float x[4];
  SLUICE_UNROLL
  for (int i = 0; i < 4; ++i) x[i] = CodeValue((codes >> (8 * i)) & 0xffu, type) * scale;
  return make_uint2(Half::Pack(x[0], x[1]), Half::Pack(x[2], x[3]));
}

// The scale of a group whose largest magnitude is `largest` (bf16), as bf16 bits; kv_codec's
// choice: for E4M3 the power of two that brings it within 448, for int8 the next bf16 number that
// is not below largest / 127.
__device__ __forceinline__ uint32_t ScaleBits(float largest, KvType type) {
  const uint32_t bits = __float_as_uint(largest);
  if (type == KvType::kInt8) {
    const uint32_t up = (__float_as_uint(largest * (1.0F / 127.0F)) + 0xffffu) >> 16;
    return max(up, static_cast<uint32_t>(127 - 120) << 7);
  }
  const uint32_t top = bits >> 16;
  const int exponent = static_cast<int>(top >> 7) - 127 - 8 + ((top & 0x7fu) > 0x60u ? 1 : 0);
  return static_cast<uint32_t>(max(exponent, -117) + 127) << 7;
}

// A bf16 NaN: the scale of a row with numbers that have no code.
constexpr uint32_t kNanBits = 0x7fc0;

// The code of x in a group with that scale; to nearest even. Magnitudes below 2^-126 are zero.
__device__ __forceinline__ uint32_t Code(float x, uint32_t scale_bits, KvType type) {
  const float scale = __uint_as_float(scale_bits << 16);
  if (type == KvType::kInt8) {
    return static_cast<uint32_t>(__float2int_rn(x * (1.0F / scale))) & 0xffu;
  }
  if (fabsf(x) < 0x1p-126F) x = x * 0.0F;
  // Both factors are powers of two: exact, and neither is a subnormal.
  const float y = x * (1.0F / scale);
  return __nv_cvt_float_to_fp8(y, __NV_SATFINITE, __NV_E4M3);
}

// Quantizes one row of `dim` (multiple of 4, at most 256) numbers, done by one warp: lane i holds
// elements 4 i .. 4 i + 3 in x[0..3] and, of rows above 128, 128 + 4 i .. in x[4..7]; what lies
// beyond the row is zero. Returns false for all lanes if a number is not finite or above 2^120;
// then the scales are NaN, and so is what attention reads, as if the row had kept its type.
__device__ __forceinline__ bool QuantizeRow(const float (&x)[8], int dim, int group, KvType type,
                                            unsigned char* codes, unsigned char* scales) {
  const int lane = gpu::lane_id();
  float largest[2];
  bool good = true;
  SLUICE_UNROLL
  for (int j = 0; j < 2; ++j) {
    largest[j] = 0;
    SLUICE_UNROLL
    for (int i = 0; i < 4; ++i) {
      good = good && fabsf(x[4 * j + i]) <= 0x1p120F;
      largest[j] = fmaxf(largest[j], fabsf(x[4 * j + i]));
    }
    for (int lanes = 1; lanes < min(group / 4, 32); lanes *= 2) {
      largest[j] = fmaxf(largest[j], __shfl_xor_sync(0xffffffffu, largest[j], lanes));
    }
  }
  good = __all_sync(0xffffffffu, good) != 0;
  if (group > 128) largest[0] = largest[1] = fmaxf(largest[0], largest[1]);
  SLUICE_UNROLL
  for (int j = 0; j < 2; ++j) {
    const int first = 128 * j + 4 * lane;
    if (first >= dim) break;
    const uint32_t scale = ScaleBits(largest[j], type);
    uint32_t word = 0;
    SLUICE_UNROLL
    for (int i = 0; i < 4; ++i) word |= Code(x[4 * j + i], scale, type) << (8 * i);
    gpu::store_global(reinterpret_cast<uint32_t*>(codes + first), word);
    if (first % group == 0) {
      gpu::store_global(reinterpret_cast<uint16_t*>(scales) + first / group,
                        static_cast<uint16_t>(good ? scale : kNanBits));
    }
  }
  return good;
}

}  // namespace sluice::cuda
