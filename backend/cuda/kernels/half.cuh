// half.cuh: what kernels need to be written once for bf16 and fp16. For kernel sources only.
#pragma once

#include "backend/cuda/gpu/device.h"
#include "backend/cuda/kernels/types.h"

// Unroll the loop that follows a few times: where all of it would cost too many registers.
#if defined(__CUDACC__)
#define SLUICE_UNROLL_2 _Pragma("unroll 2")
#define SLUICE_UNROLL_4 _Pragma("unroll 4")
#else
#define SLUICE_UNROLL_2
#define SLUICE_UNROLL_4
#endif

namespace sluice::cuda {

struct Bf16 {
  using Type = __nv_bfloat16;
  static constexpr HalfType kType = HalfType::kBf16;
  __device__ __forceinline__ static uint32_t Pack(float low, float high) {
    return gpu::pack_bf16(low, high);
  }
  __device__ __forceinline__ static float2 Unpack(uint32_t word) {
    return make_float2(gpu::bf16_lo(word), gpu::bf16_hi(word));
  }
  __device__ __forceinline__ static void Mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1 SLUICE_GPU_SITE) {
    const uint32_t b[2] = {b0, b1};
    gpu::mma_m16n8k16_bf16(d, a, b, d SLUICE_GPU_PASS_SITE);
  }
};

struct F16 {
  using Type = __half;
  static constexpr HalfType kType = HalfType::kF16;
  __device__ __forceinline__ static uint32_t Pack(float low, float high) {
    return gpu::pack_f16(low, high);
  }
  __device__ __forceinline__ static float2 Unpack(uint32_t word) {
    return make_float2(__half2float(__ushort_as_half(static_cast<unsigned short>(word & 0xffffu))),
                       __half2float(__ushort_as_half(static_cast<unsigned short>(word >> 16))));
  }
  __device__ __forceinline__ static void Mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1 SLUICE_GPU_SITE) {
    const uint32_t b[2] = {b0, b1};
    gpu::mma_m16n8k16_f16(d, a, b, d SLUICE_GPU_PASS_SITE);
  }
};

// Calls fn(Bf16{}) or fn(F16{}).
template <class Fn>
cudaError_t WithHalf(HalfType type, const Fn& fn) {
  return type == HalfType::kBf16 ? fn(Bf16{}) : fn(F16{});
}

// A shared tile of rows of kColumns halves, in 16-byte chunks, dense. Chunk c of row r lies at
// chunk c ^ key(r) of its row, so that the 8 rows of one ldmatrix matrix, and 8 neighbouring chunks
// of a row, fall into different banks whatever kColumns is.
template <int kColumns>
struct Swizzle {
  static_assert(kColumns % 16 == 0);
  static constexpr int kChunks = kColumns / 8;
  static constexpr int kBits = kChunks % 8 == 0 ? 3 : kChunks % 4 == 0 ? 2 : 1;
  // Offset in elements.
  __device__ __forceinline__ static int At(int row, int chunk) {
    const int key = (row >> (3 - kBits)) & ((1 << kBits) - 1);
    return row * kColumns + ((chunk ^ key) << 3);
  }
};

__device__ __forceinline__ uint32_t Divide(uint32_t n, const FastDivisor& by) {
  return by.divisor == 1 ? n : __umulhi(n, by.multiplier) >> by.shift;
}

// Sum, maximum over the lanes of a warp; every lane gets it.
__device__ __forceinline__ float WarpSum(float value) {
  SLUICE_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}
__device__ __forceinline__ float WarpMax(float value) {
  SLUICE_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  }
  return value;
}

}  // namespace sluice::cuda
