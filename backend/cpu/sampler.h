// Draws a token from logits as SamplingParams says.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/request.h"
#include "scheduler/step.h"

namespace sluice {

struct SampleInput {
  const SamplingParams* params = nullptr;
  std::span<const TokenId> tokens;  // prompt, then output so far
  int64_t prompt = 0;               // how many of `tokens` are the prompt
  int64_t output_index = 0;
};

// Uniform in [0, 1), a pure function of its arguments.
double UniformDraw(uint64_t seed, int64_t index);

// Memory reused from draw to draw. Thread-compatible.
class Sampler {
 public:
  // Overwrites `logits`. Returns INTERNAL if they hold NaN or infinity (a broken model or a
  // broken KV) and if no token may be drawn.
  absl::StatusOr<SampledToken> Sample(std::span<float> logits, const SampleInput& input);

 private:
  void ReportLogprobs(std::span<const float> logits, float maximum, int32_t count);
  void ApplyPenalties(std::span<float> logits, const SampleInput& input);
  TokenId Draw(std::span<const float> logits, float maximum, const SamplingParams& params,
               double uniform);
  TokenId DrawFromTop(std::span<const float> logits, double mass, const SamplingParams& params,
                      double uniform);
  void SortTop(std::span<const float> logits, size_t count);

  std::vector<float> raw_;      // logits before penalties and masks
  std::vector<float> weights_;  // exp of logits over temperature
  std::vector<TokenId> order_;  // tokens; a sorted prefix is meaningful
  std::vector<TokenId> seen_;
  std::vector<TokenLogprob> top_;
  double log_sum_ = 0;
};

}  // namespace sluice
