// Rows of halves to E4M3 codes with one float scale per row: what products in 8 bits read. Weights
// when they are loaded (a row is an output channel), activations on the fly (a row is a token).
//
//   scale = largest / 448, code = x * (448 / largest), to nearest even; a row of zeros, or of
//   nothing above 2^-100, has scale 1.
//
// A row with a number that is not finite gets a NaN for its scale, and so do the products with it.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

struct QuantizeRowsParams {
  const void* x = nullptr;  // device, half [rows][stride], the first k of each row
  int64_t stride = 0;       // elements; >= k
  void* codes = nullptr;    // device, E4M3 [rows][k]
  float* scales = nullptr;  // device, [rows]
  int32_t rows = 0;         // 0 is fine and launches nothing
  int32_t k = 0;            // 0: every scale is 1
  HalfType half = HalfType::kBf16;
};

// Enqueues one launch.
[[nodiscard]] cudaError_t LaunchQuantizeRows(const QuantizeRowsParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
