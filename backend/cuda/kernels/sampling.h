// Draws tokens from logits as scheduler/request.h defines SamplingParams: arg max, or temperature,
// top_k, top_p, min_p and a draw that depends on (seed, output index) only.
//
// The same meaning and the same random stream as backend/cpu/sampler.h: without a cut the draw
// walks the tokens by id, with one it walks what is left from the likeliest down, lower id first
// among equals. Weights are kept in fixed point (40 bits behind the point, relative to the
// likeliest), so that sums do not depend on the order in which threads add: the token is a function
// of the logits alone. A token below 2^-40 of the likeliest is never drawn.
//
// Penalties and masks come before, logprobs beside it: logits.h.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

struct SampleRow {
  float temperature = 1.0F;  // 0: arg max
  float top_p = 1.0F;        // (0, 1]; 1: off
  float min_p = 0.0F;        // [0, 1]; 0: off
  int32_t top_k = 0;         // 0: off
  uint64_t seed = 0;
  int64_t output_index = 0;
};

struct SampleParams {
  const float* logits = nullptr;    // device, [count][vocab]
  const SampleRow* rows = nullptr;  // device, [count]
  // device, [count]; -1: a logit is NaN or plus infinity, or all are minus infinity
  int32_t* tokens = nullptr;
  int32_t count = 0;  // 0 is fine and launches nothing
  int32_t vocab = 0;  // at most 2^22
};

// Enqueues one launch.
[[nodiscard]] cudaError_t LaunchSample(const SampleParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
