// What happens to logits before a token is drawn: penalties and masks; and log-probabilities of the
// distribution before them.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

// One logit that changes, in this order:
//   repetition: divided by the penalty if above zero, else multiplied (Keskar et al. 2019)
//   less presence + frequency * times, if times > 0
//   minus infinity, if masked
struct LogitEdit {
  int32_t row = 0;
  int32_t token = 0;  // in [0, vocab)
  float repetition = 1.0F;
  float presence = 0.0F;
  float frequency = 0.0F;
  int32_t times = 0;  // how often it is in the output
  int32_t masked = 0;
};

struct LogitEditParams {
  float* logits = nullptr;           // device, [rows][vocab]
  const LogitEdit* edits = nullptr;  // device, [count]; no (row, token) twice
  float* before = nullptr;           // device, [count]: what the logits were; may be null
  int32_t count = 0;                 // 0 is fine and launches nothing
  int32_t vocab = 0;
};

// Enqueues one launch.
[[nodiscard]] cudaError_t LaunchLogitEdits(const LogitEditParams& params, cudaStream_t stream);

struct LogprobParams {
  const float* logits = nullptr;  // device, [*][vocab], finite or minus infinity
  const int32_t* rows = nullptr;  // device, [count]: which rows
  float* log_sum = nullptr;       // device, [count]: logprob of token t is logit[t] - log_sum
  int32_t* tokens = nullptr;  // device, [count][top]: likeliest first, lower id first among equals
  float* logprobs = nullptr;  // device, [count][top]
  int32_t count = 0;          // 0 is fine and launches nothing
  int32_t top = 0;            // at most vocab; each costs a pass
  int32_t vocab = 0;
};

// Enqueues one launch.
[[nodiscard]] cudaError_t LaunchLogprobs(const LogprobParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
