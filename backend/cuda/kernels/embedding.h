// Looks up the rows of the embedding: residual[i] = float(table[token i]).
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

struct EmbeddingParams {
  const void* table = nullptr;      // device, half [vocab][hidden]
  const int32_t* tokens = nullptr;  // device, [count], each in [0, vocab), or see `drawn`
  float* residual = nullptr;        // device, [count][hidden]
  int32_t count = 0;                // 0 is fine and launches nothing
  int32_t hidden = 0;               // even
  HalfType half = HalfType::kBf16;
  // Device: what an earlier step drew. A token of -1 - d stands for drawn[d]; what could not be
  // drawn (SampleParams::tokens) counts as 0.
  const int32_t* drawn = nullptr;
};

// Enqueues one launch.
[[nodiscard]] cudaError_t LaunchEmbedding(const EmbeddingParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
