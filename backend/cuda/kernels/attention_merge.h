// Puts partial attention results together: for every merge and head,
//   lse = log2 sum_i 2^lse_i      out = sum_i 2^(lse_i - lse) out_i
// which is the softmax over the union of what the parts saw, up to rounding. Parts are folded in
// their order, as attention_fold.cuh says: those of a row's segments give the bits that one block
// that does all segments gives. A part may come from anywhere, as long as its row and its lse lie
// in the partial buffers. Merges can be chained (that is exact up to rounding, not bit for bit).
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

struct AttentionMerge {
  int32_t query = 0;    // row of out
  int32_t partial = 0;  // row of part 0 in the partial buffers
  int32_t stride = 0;   // rows from part to part
  int32_t parts = 0;    // >= 1
};

struct AttentionMergeParams {
  const float* partial = nullptr;          // device, [partial rows][heads][dim]
  const float* lse = nullptr;              // device, [partial rows][heads], base 2
  const AttentionMerge* merges = nullptr;  // device, [merge_count]
  int32_t merge_count = 0;                 // 0 is fine and launches nothing
  int32_t heads = 0;
  int32_t dim = 0;             // multiple of 4
  void* out = nullptr;         // device, half [T][heads][dim]; may be null
  float* out_float = nullptr;  // device, the same in float; may be null
  float* out_lse = nullptr;    // device, [T][heads]; may be null
  HalfType half = HalfType::kBf16;
};

// Enqueues one launch. A row whose parts all saw nothing becomes zero with lse minus infinity.
[[nodiscard]] cudaError_t LaunchAttentionMerge(const AttentionMergeParams& params,
                                               cudaStream_t stream);

}  // namespace sluice::cuda
