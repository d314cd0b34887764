// Products of activations and weights: c[i][j] = sum_l a[i][l] * b[j][l] + bias[j]. Weights lie as
// checkpoints have them, [out][in]; sums are float.
//
// Weights may be 8-bit: E4M3 codes with a float scale per row (per output channel), as
// quantize_rows.h makes them. Codes are exact in either half type, so they are widened on their way
// into shared memory, multiplied like all others, and scaled in the sum.
//
// A row of c is a function of its row of a: its bits do not depend on m, nor on where in a the row
// stands (each sum runs over k from left to right, 16 at a time, whatever the tile).
//
// LaunchGemm is a plain kernel of our own, right for all shapes; on a GPU cuBLASLt is faster and
// preferred (cublaslt_gemm.h).
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

struct GemmParams {
  const void* a = nullptr;     // device, half [m][a_stride], the first k of each row
  int64_t a_stride = 0;        // elements; >= k
  const void* b = nullptr;     // device, half [n][k]; with b_scales: E4M3 [n][k]
  const void* bias = nullptr;  // device, half [n]; may be null
  void* c = nullptr;           // device, half or float [m][n]
  bool float_out = false;
  int32_t m = 0;  // 0 is fine and launches nothing, as is n
  int32_t n = 0;
  int32_t k = 0;  // 0: c is the bias, or zero
  HalfType half = HalfType::kBf16;
  const float* b_scales = nullptr;  // device, [n]; null: b is of halves
};

// Enqueues one launch.
[[nodiscard]] cudaError_t LaunchGemm(const GemmParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
