// attention_output-inl.cuh: how AttentionBlock (attention_block.cuh) puts its result together and
// writes it.
#pragma once

#include "backend/cuda/kernels/attention_block.cuh"

namespace sluice::cuda {

#define SLUICE_ATTENTION(type)                        \
  template <class Half, class Shape, bool kQuantized> \
  __device__ __forceinline__ type AttentionBlock<Half, Shape, kQuantized>

// The sums of the four lanes that share a row.
SLUICE_ATTENTION(void)::AddLanes() {
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    sum_[r] += __shfl_xor_sync(0xffffffffu, sum_[r], 1);
    sum_[r] += __shfl_xor_sync(0xffffffffu, sum_[r], 2);
  }
}

SLUICE_ATTENTION(void)::WriteLse(int row, float maximum, float sum) {
  const float lse = sum > 0 ? fmaf(maximum, scale_log2_, log2f(sum)) : -INFINITY;
  gpu::store_global(params_.lse + HeadRow(work_.partial, row), lse);
}

// No token of the range is seen by any row.
SLUICE_ATTENTION(void)::WriteNothing() {
  constexpr int kQuads = kDim / 4;
  for (int i = static_cast<int>(threadIdx.x); i < rows_ * kQuads; i += kThreads) {
    const int row = i / kQuads;
    const int dim = i % kQuads * 4;
    if (work_.partial >= 0) {
      gpu::store_global(
          reinterpret_cast<float4*>(params_.partial + HeadRow(work_.partial, row) * kDim + dim),
          make_float4(0, 0, 0, 0));
      if (dim == 0) WriteLse(row, 0, 0);
    } else {
      gpu::store_global(reinterpret_cast<uint2*>(static_cast<Element*>(params_.out) +
                                                 HeadRow(work_.query, row) * kDim + dim),
                        make_uint2(0, 0));
    }
  }
}

// Every warp has its own rows: through its part of q's memory, so that the stores are wide.
SLUICE_ATTENTION(void)::WriteRows() {
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    const int row = warp_m_ * 16 + quad_ + 8 * r;
    const float inverse = sum_[r] > 0 ? 1.0F / sum_[r] : 0.0F;
    if (work_.partial >= 0) {
      if (row >= rows_) continue;
      float* to = params_.partial + HeadRow(work_.partial, row) * kDim + pair_ * 2;
      SLUICE_UNROLL
      for (int i = 0; i < kDimTiles; ++i) {
        gpu::store_global(reinterpret_cast<float2*>(to + i * 8),
                          make_float2(o_[i][2 * r] * inverse, o_[i][2 * r + 1] * inverse));
      }
      if (pair_ == 0) WriteLse(row, maximum_[r], sum_[r]);
      continue;
    }
    SLUICE_UNROLL
    for (int i = 0; i < kDimTiles; ++i) {
      gpu::store_shared(reinterpret_cast<uint32_t*>(shared_.q + At::At(row, i) + pair_ * 2),
                        Half::Pack(o_[i][2 * r] * inverse, o_[i][2 * r + 1] * inverse));
    }
  }
  if (work_.partial >= 0) return;
  __syncwarp();
  SLUICE_UNROLL
  for (int i = 0; i < 16 * kDimTiles / 32; ++i) {
    const int c = gpu::lane_id() + i * 32;
    const int row = warp_m_ * 16 + c / kDimTiles;
    if (row >= rows_) break;
    gpu::stg128(
        static_cast<Element*>(params_.out) + HeadRow(work_.query, row) * kDim + c % kDimTiles * 8,
        gpu::lds128(shared_.q + At::At(row, c % kDimTiles)));
  }
}

// Several warps have parts of the same rows: all parts meet in shared memory.
SLUICE_ATTENTION(void)::WriteMerged() {
  auto* parts = reinterpret_cast<float*>(shared_.kv);
  constexpr int kStride = Shape::kExchangeStride;
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    const int row = warp_n_ * 16 + quad_ + 8 * r;
    SLUICE_UNROLL
    for (int i = 0; i < kDimTiles; ++i) {
      gpu::store_shared(reinterpret_cast<float2*>(parts + row * kStride + i * 8 + pair_ * 2),
                        make_float2(o_[i][2 * r], o_[i][2 * r + 1]));
    }
    if (pair_ == 0) {
      shared_.stats[row * 2] = maximum_[r];
      shared_.stats[row * 2 + 1] = sum_[r];
    }
  }
  __syncthreads();
  constexpr int kQuads = kDim / 4;
  for (int i = static_cast<int>(threadIdx.x); i < rows_ * kQuads; i += kThreads) {
    const int row = i / kQuads;
    const int dim = i % kQuads * 4;
    float maximum = -INFINITY;
    SLUICE_UNROLL
    for (int w = 0; w < Shape::kWarpsN; ++w) {
      maximum = fmaxf(maximum, shared_.stats[(w * 16 + row) * 2]);
    }
    const float base = maximum == -INFINITY ? 0.0F : maximum * scale_log2_;
    float sum = 0;
    float4 o = make_float4(0, 0, 0, 0);
    SLUICE_UNROLL
    for (int w = 0; w < Shape::kWarpsN; ++w) {
      const float* stats = shared_.stats + (w * 16 + row) * 2;
      const float weight = gpu::fast_exp2(fmaf(stats[0], scale_log2_, -base));
      const float4 part =
          gpu::load_shared(reinterpret_cast<const float4*>(parts + (w * 16 + row) * kStride + dim));
      sum = fmaf(stats[1], weight, sum);
      o.x = fmaf(part.x, weight, o.x);
      o.y = fmaf(part.y, weight, o.y);
      o.z = fmaf(part.z, weight, o.z);
      o.w = fmaf(part.w, weight, o.w);
    }
    const float inverse = sum > 0 ? 1.0F / sum : 0.0F;
    o = make_float4(o.x * inverse, o.y * inverse, o.z * inverse, o.w * inverse);
    if (work_.partial >= 0) {
      gpu::store_global(
          reinterpret_cast<float4*>(params_.partial + HeadRow(work_.partial, row) * kDim + dim), o);
      if (dim == 0) WriteLse(row, maximum, sum);
    } else {
      gpu::store_global(reinterpret_cast<uint2*>(static_cast<Element*>(params_.out) +
                                                 HeadRow(work_.query, row) * kDim + dim),
                        make_uint2(Half::Pack(o.x, o.y), Half::Pack(o.z, o.w)));
    }
  }
}

#undef SLUICE_ATTENTION

}  // namespace sluice::cuda
