// block_reduce.cuh: what several row kernels need of a whole block. For kernel sources only.
#pragma once

#include "backend/cuda/gpu/device.h"

namespace sluice::cuda {

// Combines one 64-bit value per thread with `combine` (associative and commutative); every thread
// gets the result. `scratch`: shared, one word per warp; free again when this returns.
template <int kThreads, class Combine>
__device__ __forceinline__ unsigned long long BlockReduce(unsigned long long value,
                                                          unsigned long long* scratch,
                                                          const Combine& combine) {
  SLUICE_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  }
  if (gpu::lane_id() == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = scratch[0];
  SLUICE_UNROLL
  for (int w = 1; w < kThreads / 32; ++w) value = combine(value, scratch[w]);
  __syncthreads();
  return value;
}

struct AddWords {
  __device__ unsigned long long operator()(unsigned long long a, unsigned long long b) const {
    return a + b;
  }
};
struct LargerWord {
  __device__ unsigned long long operator()(unsigned long long a, unsigned long long b) const {
    return a > b ? a : b;
  }
};

// A word that is ordered as the float is; -0 and 0 are one. REQUIRES: not a NaN.
__device__ __forceinline__ uint32_t OrderedBits(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0F);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float FromOrderedBits(uint32_t bits) {
  return __uint_as_float((bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits);
}

// Orders tokens by logit, then by lower id: the largest word is the likeliest token.
__device__ __forceinline__ unsigned long long RankWord(float logit, int token) {
  return static_cast<unsigned long long>(OrderedBits(logit)) << 32 | ~static_cast<uint32_t>(token);
}
__device__ __forceinline__ int TokenOfRank(unsigned long long word) {
  return static_cast<int>(~static_cast<uint32_t>(word));
}
__device__ __forceinline__ float LogitOfRank(unsigned long long word) {
  return FromOrderedBits(static_cast<uint32_t>(word >> 32));
}

}  // namespace sluice::cuda
