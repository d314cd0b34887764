// attention_fold.cuh: how results of segments of a row's KV become one result. For kernel sources
// only.
//
// A row's KV is cut at multiples of kAttentionSegment (attention.h). Of each segment there is a
// part that sums to one and its lse (base 2); parts are folded from left to right:
//
//   top' = max(top, lse)    keep = 2^(top - top')    add = 2^(lse - top')
//   weight' = weight keep + add    total' = total keep + part add    out = total / weight
//
// Everybody who folds, in scratch rows or in the merge kernel, does it here, with
// operations that the compiler cannot contract: so all get the same bits. A segment of which a row
// sees nothing (lse minus infinity, part zero) changes nothing, nor does one part alone.
#pragma once

#include <math.h>

#include "backend/cuda/kernels/half.cuh"

namespace sluice::cuda {

struct SegmentFold {
  float top = -INFINITY;
  float weight = 0;

  struct Weights {
    float keep;  // of the total so far
    float add;   // of the part that comes
  };
  __device__ __forceinline__ Weights Add(float lse) {
    const float high = fmaxf(top, lse);
    const float shift = high == -INFINITY ? 0.0F : high;
    const Weights weights{gpu::fast_exp2(__fadd_rn(top, -shift)),
                          gpu::fast_exp2(__fadd_rn(lse, -shift))};
    top = high;
    weight = __fmaf_rn(weight, weights.keep, weights.add);
    return weights;
  }
  __device__ __forceinline__ static float Put(float total, float part, Weights weights) {
    return __fmaf_rn(total, weights.keep, __fmul_rn(part, weights.add));
  }
  // What a total is multiplied by at the end.
  __device__ __forceinline__ float Inverse() const { return weight > 0 ? 1.0F / weight : 0.0F; }
  __device__ __forceinline__ float Lse() const {
    return weight > 0 ? __fadd_rn(top, log2f(weight)) : -INFINITY;
  }
};

// x y, without a negative zero: whether a tile that a row does not see was added must not show.
__device__ __forceinline__ float Normalize(float x, float y) { return __fmaf_rn(x, y, 0.0F); }

// Adds parts to totals in scratch memory, that of part i at `at(i)`; only this thread writes there.
// After the last, `part` is the total times `inverse`; before, the total is in memory. A few at a
// time, so that no more than these are in registers.
template <bool kLast, int kCount, class At>
__device__ __forceinline__ void FoldInScratch(float2 (&part)[kCount], const At& at,
                                              SegmentFold::Weights weights, float inverse,
                                              bool first) {
  float2 total[kCount];
  SLUICE_UNROLL
  for (int i = 0; i < kCount; ++i) {
    total[i] = first ? make_float2(0, 0) : gpu::load_global_in_order(at(i));
  }
  SLUICE_UNROLL
  for (int i = 0; i < kCount; ++i) {
    total[i].x = SegmentFold::Put(total[i].x, part[i].x, weights);
    total[i].y = SegmentFold::Put(total[i].y, part[i].y, weights);
    if constexpr (kLast) {
      part[i] = make_float2(Normalize(total[i].x, inverse), Normalize(total[i].y, inverse));
    } else {
      gpu::store_global_in_order(at(i), total[i]);
    }
  }
}

// The logarithm that belongs to a segment whose weights sum to `sum` relative to 2^base.
__device__ __forceinline__ float SegmentLse(float base, float sum) {
  return sum > 0 ? __fadd_rn(base, log2f(sum)) : -INFINITY;
}

// Where the block of a token lies: entry of the block table -> its first byte, in either pool.
__device__ __forceinline__ const unsigned char* BlockAt(const KvView (&views)[2], int32_t entry) {
  const bool other = entry < 0;
  const auto* data = static_cast<const unsigned char*>(other ? views[1].data : views[0].data);
  const int64_t stride = other ? views[1].block_stride : views[0].block_stride;
  return data + static_cast<int64_t>(other ? ~entry : entry) * stride;
}

}  // namespace sluice::cuda
