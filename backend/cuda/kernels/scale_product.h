// What a product of E4M3 codes still lacks: c[i][j] = raw[i][j] * rows[i] * columns[j] + bias[j].
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

struct ScaleProductParams {
  const float* raw = nullptr;      // device, [m][n]
  const float* rows = nullptr;     // device, [m]
  const float* columns = nullptr;  // device, [n]
  const void* bias = nullptr;      // device, half [n]; may be null
  void* c = nullptr;               // device, half or float [m][n]
  bool float_out = false;
  int32_t m = 0;  // 0 is fine and launches nothing, as is n
  int32_t n = 0;  // even
  HalfType half = HalfType::kBf16;
};

// Enqueues one launch. Returns cudaErrorInvalidValue for odd n.
[[nodiscard]] cudaError_t LaunchScaleProduct(const ScaleProductParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
