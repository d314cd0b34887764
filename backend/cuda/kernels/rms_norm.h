// RMSNorm over rows (Zhang and Sennrich 2019), with the residual addition that comes before it:
//   residual[r] += delta[i]          (if there is a delta)
//   out[i] = residual[r] / sqrt(mean(residual[r]^2) + eps) * weight
// with r = rows[i], or i where there are no `rows`. The residual stream stays in float; only what
// matrix products read is rounded to halves.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

struct RmsNormParams {
  float* residual = nullptr;      // device, [residual rows][hidden]; written if there is a delta
  const void* delta = nullptr;    // device, half [count][hidden]; may be null
  const void* weight = nullptr;   // device, half [hidden]
  void* out = nullptr;            // device, half [count][hidden]; may be null: addition only
  const int32_t* rows = nullptr;  // device, [count], no row twice; may be null
  int32_t count = 0;              // 0 is fine and launches nothing
  int32_t hidden = 0;             // even
  float eps = 1e-6F;
  HalfType half = HalfType::kBf16;
};

// Enqueues one launch.
[[nodiscard]] cudaError_t LaunchRmsNorm(const RmsNormParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
