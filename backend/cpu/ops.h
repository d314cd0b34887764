// Row operations of the forward pass, vectorized for the CPU at hand. Each works on one row and
// touches nothing else.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/element.h"
#include "backend/model/model_config.h"

namespace sluice {

// out[at + i] = x[i] as elements; bf16 rounds to nearest even.
void ToElements(const float* x, int64_t n, Element element, void* out, int64_t at);

// out = x / sqrt(mean(x^2) + eps) * weight, as elements (Zhang & Sennrich 2019).
void RmsNorm(const float* x, const float* weight, int64_t n, float eps, Element element, void* out,
             int64_t at);
// The same in place, in floats.
void RmsNormInPlace(float* x, const float* weight, int64_t n, float eps);

// Rotates the pairs (x[i], x[half + i]) by the angle whose cosine and sine are given.
void Rope(float* x, const float* cosine, const float* sine, int64_t half);

// out[at + i] = silu(gate[i]) * up[i] as elements.
void SwiGlu(const float* gate, const float* up, int64_t n, Element element, void* out, int64_t at);

// y += x
void AddTo(float* y, const float* x, int64_t n);

// The largest x[i]. NaN if any x[i] is NaN or plus infinity, or if all are minus infinity.
float CheckedMax(const float* x, int64_t n);

// out[i] = exp((x[i] - maximum) * scale) and returns their sum. REQUIRES: no x[i] above maximum.
double ExpSum(const float* x, int64_t n, float maximum, float scale, float* out);

// cos and sin of every position's rotation angles, computed in double.
class RopeTable {
 public:
  RopeTable(const ModelConfig& config, Tokens positions);

  int64_t half() const { return half_; }
  const float* cosine(int64_t position) const { return cosine_.data() + position * half_; }
  const float* sine(int64_t position) const { return sine_.data() + position * half_; }

 private:
  int64_t half_;
  std::vector<float> cosine_;  // [position][half]
  std::vector<float> sine_;
};

}  // namespace sluice
