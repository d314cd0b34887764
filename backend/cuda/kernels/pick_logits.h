// Reads single logits: out[i] = logits[i][tokens[i]], for the log-probability of what was drawn.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

struct PickLogitsParams {
  const float* logits = nullptr;    // device, [count][vocab]
  const int32_t* tokens = nullptr;  // device, [count]; outside [0, vocab): gives 0
  float* out = nullptr;             // device, [count]
  int32_t count = 0;                // 0 is fine and launches nothing
  int32_t vocab = 0;
};

// Enqueues one launch.
[[nodiscard]] cudaError_t LaunchPickLogits(const PickLogitsParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
