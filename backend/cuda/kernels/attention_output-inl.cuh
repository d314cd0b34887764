// attention_output-inl.cuh: what AttentionBlock (attention_block.cuh) does at the end of a segment.
#pragma once

#include "backend/cuda/kernels/attention_block.cuh"

namespace sluice::cuda {

#define SLUICE_ATTENTION_LAST(type)                   \
  template <class Half, class Shape, bool kQuantized> \
  template <bool kLast>                               \
  __device__ __forceinline__ type AttentionBlock<Half, Shape, kQuantized>
#define SLUICE_ATTENTION(type)                        \
  template <class Half, class Shape, bool kQuantized> \
  __device__ __forceinline__ type AttentionBlock<Half, Shape, kQuantized>

// Sums of the weights of rows quad_ and quad_ + 8: each 16 tokens of a tile by themselves, first
// over the lanes of a quad; then these, in order.
SLUICE_ATTENTION(void)::RowSums(float (&sums)[2]) const {
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    sums[r] = 0;
    SLUICE_UNROLL
    for (int i = 0; i < Shape::kSums; ++i) {
      float sum = sum_[r][i];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      sums[r] += sum;
    }
    if constexpr (kExchange) {
      if (pair_ == 0) shared_.sums[warp_n_ * 16 + quad_ + 8 * r] = sums[r];
    }
  }
  if constexpr (kExchange) {
    __syncthreads();  // all sums are there
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      sums[r] = 0;
      SLUICE_UNROLL
      for (int w = 0; w < Shape::kWarpsN; ++w) sums[r] += shared_.sums[w * 16 + quad_ + 8 * r];
    }
  }
}

// Divides by the sums, and passes the result on to where it belongs.
SLUICE_ATTENTION_LAST(void)::EndSegment(int segment) {
  float sums[2], lse[2];
  RowSums(sums);
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    const float inverse = sums[r] > 0 ? 1.0F / sums[r] : 0.0F;
    lse[r] = SegmentLse(base_[r], sums[r]);
    SLUICE_UNROLL
    for (int i = 0; i < kDimTiles; ++i) {
      o_[i][2 * r] = Normalize(o_[i][2 * r], inverse);
      o_[i][2 * r + 1] = Normalize(o_[i][2 * r + 1], inverse);
    }
  }
  const int first = begin_ / kAttentionSegment;
  // Prefill tiles have no parts. (For rows of 256, leaving the branch out makes ptxas 13.0 spill.)
  if ((kExchange || kDim > 128) && work_.parts != 0) {
    WritePart(segment - first, lse);
  } else {
    if (!kLast || segment != first) FoldSegment<kLast>(lse, segment == first);
    if constexpr (kLast) WriteRows();
  }
  if constexpr (!kLast) Clear();
}

// No token of the range is seen by any row.
SLUICE_ATTENTION(void)::WriteNothing() {
  constexpr int kQuads = kDim / 4;
  for (int i = static_cast<int>(threadIdx.x); i < rows_ * kQuads; i += kThreads) {
    const int row = i / kQuads;
    const int dim = i % kQuads * 4;
    if (work_.parts != 0) {
      const int64_t at = HeadRow(work_.partial, row);
      gpu::store_global(reinterpret_cast<float4*>(params_.partial + at * kDim + dim),
                        make_float4(0, 0, 0, 0));
      if (dim == 0) gpu::store_global(params_.lse + at, -INFINITY);
    } else {
      gpu::store_global(reinterpret_cast<uint2*>(static_cast<Element*>(params_.out) +
                                                 HeadRow(work_.query, row) * kDim + dim),
                        make_uint2(0, 0));
    }
  }
}

SLUICE_ATTENTION(void)::WritePart(int segment, const float (&lse)[2]) {
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    const int row = warp_m_ * 16 + quad_ + 8 * r;
    if (row >= rows_) continue;
    const int64_t at = HeadRow(work_.partial + segment * work_.count, row);
    float* to = params_.partial + at * kDim + FirstColumn() * 8 + pair_ * 2;
    SLUICE_UNROLL
    for (int i = 0; i < kDimTiles; ++i) {
      if (!HasPair(i / 2)) break;
      gpu::store_global(reinterpret_cast<float2*>(to + Column(i) * 8),
                        make_float2(o_[i][2 * r], o_[i][2 * r + 1]));
    }
    if (pair_ == 0 && warp_n_ == 0) gpu::store_global(params_.lse + at, lse[r]);
  }
}

// Adds a segment to those before it; after the last, o_ is the result of all. A thread finds in
// scratch rows and in shared memory what it has written itself.
SLUICE_ATTENTION_LAST(void)::FoldSegment(const float (&lse)[2], bool first) {
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    SegmentFold& place = shared_.folds[r * kThreads + static_cast<int>(threadIdx.x)];
    SegmentFold fold;
    if (!first) fold = place;
    const SegmentFold::Weights weights = fold.Add(lse[r]);
    place = fold;
    FoldRow<kLast>(r, weights, fold.Inverse(), first);
  }
}

SLUICE_ATTENTION_LAST(void)
::FoldRow(int r, SegmentFold::Weights weights, float inverse, bool first) {
  const int row = warp_m_ * 16 + quad_ + 8 * r;
  if (row >= rows_) return;
  // As many at a time as there are registers for where a segment ends.
  constexpr int kAll = kDimTiles <= 12 ? kDimTiles : kDimTiles <= 16 ? 8 : 2;
  constexpr int kCount = Shape::kPairs % Shape::kWarpsN == 0 ? kAll : 2;
  float* scratch =
      params_.partial + HeadRow(work_.partial, row) * kDim + FirstColumn() * 8 + pair_ * 2;
  SLUICE_UNROLL
  for (int i = 0; i < kDimTiles; i += kCount) {
    if (!HasPair(i / 2)) break;
    float2 part[kCount];
    SLUICE_UNROLL
    for (int j = 0; j < kCount; ++j) part[j] = make_float2(o_[i + j][2 * r], o_[i + j][2 * r + 1]);
    const auto at = [&](int j) { return reinterpret_cast<float2*>(scratch + Column(i + j) * 8); };
    FoldInScratch<kLast>(part, at, weights, inverse, first);
    SLUICE_UNROLL
    for (int j = 0; j < kCount; ++j) {
      o_[i + j][2 * r] = part[j].x;
      o_[i + j][2 * r + 1] = part[j].y;
    }
  }
}

// Through q's memory, so that the stores are wide: a warp has its own rows, or all share them.
SLUICE_ATTENTION(void)::WriteRows() {
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    const int row = warp_m_ * 16 + quad_ + 8 * r;
    SLUICE_UNROLL
    for (int i = 0; i < kDimTiles; ++i) {
      if (!HasPair(i / 2)) break;
      gpu::store_shared(reinterpret_cast<uint32_t*>(
                            shared_.q + At::At(row, FirstColumn() + Column(i)) + pair_ * 2),
                        Half::Pack(o_[i][2 * r], o_[i][2 * r + 1]));
    }
  }
  if constexpr (kExchange) {
    __syncthreads();  // the columns of all warps are there
  } else {
    __syncwarp();
  }
  constexpr int kChunks = kDim / 8;
  constexpr int kThreadsPerRows = kExchange ? kThreads : 32;
  SLUICE_UNROLL
  for (int i = 0; i < (16 * kChunks + kThreadsPerRows - 1) / kThreadsPerRows; ++i) {
    const int c =
        (kExchange ? static_cast<int>(threadIdx.x) : gpu::lane_id()) + i * kThreadsPerRows;
    const int row = warp_m_ * 16 + c / kChunks;
    if (c >= 16 * kChunks || row >= rows_) break;
    gpu::stg128(
        static_cast<Element*>(params_.out) + HeadRow(work_.query, row) * kDim + c % kChunks * 8,
        gpu::lds128(shared_.q + At::At(row, c % kChunks)));
  }
}

#undef SLUICE_ATTENTION
#undef SLUICE_ATTENTION_LAST

}  // namespace sluice::cuda
