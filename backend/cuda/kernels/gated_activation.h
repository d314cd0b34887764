// The middle of a gated MLP: out = act(gate + gate_bias) * (up + up_bias), element by element.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

enum class Activation : uint8_t {
  kSilu,      // x / (1 + exp(-x)): SwiGLU (Shazeer 2020)
  kGeluTanh,  // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): GeGLU (Hendrycks, Gimpel 2016)
};

struct GatedActivationParams {
  const void* gate_up = nullptr;  // device, half [rows][2][width]: gate, then up
  const void* bias = nullptr;     // device, half [2][width]; may be null
  void* out = nullptr;            // device, half [rows][width]
  int32_t rows = 0;               // 0 is fine and launches nothing
  int32_t width = 0;              // even
  Activation activation = Activation::kSilu;
  HalfType half = HalfType::kBf16;
};

// Enqueues one launch.
[[nodiscard]] cudaError_t LaunchGatedActivation(const GatedActivationParams& params,
                                                cudaStream_t stream);

}  // namespace sluice::cuda
