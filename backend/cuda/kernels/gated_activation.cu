#include "backend/cuda/kernels/gated_activation.h"

#include <math.h>

#include "backend/cuda/kernels/half.cuh"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 4 * kThreads;  // of a block: two pairs per thread

__device__ __forceinline__ float Activate(float x, Activation activation) {
  if (activation == Activation::kSilu) return x / (1.0F + expf(-x));
  const float inner = 0.7978845608028654F * fmaf(0.044715F * x, x * x, x);
  return 0.5F * x * (1.0F + tanhf(inner));
}

// Bytes: 3 * width * 2 per row. FLOPs: about 10 per element. Bound by memory bandwidth.
template <class Half>
__global__ void __launch_bounds__(kThreads)
    GatedActivationKernel(const __grid_constant__ GatedActivationParams p) {
  using Element = typename Half::Type;
  const int64_t row = blockIdx.x;
  const auto* gate = static_cast<const Element*>(p.gate_up) + row * 2 * p.width;
  const auto* bias = static_cast<const Element*>(p.bias);
  auto* out = static_cast<Element*>(p.out) + row * p.width;
  const auto read = [](const Element* at) {
    return Half::Unpack(gpu::load_global_nc(reinterpret_cast<const uint32_t*>(at)));
  };
  SLUICE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int at = static_cast<int>(blockIdx.y) * kColumns +
                   2 * (static_cast<int>(threadIdx.x) + i * kThreads);
    if (at >= p.width) return;
    float2 g = read(gate + at);
    float2 u = read(gate + p.width + at);
    if (bias != nullptr) {
      const float2 gb = read(bias + at);
      const float2 ub = read(bias + p.width + at);
      g = make_float2(g.x + gb.x, g.y + gb.y);
      u = make_float2(u.x + ub.x, u.y + ub.y);
    }
    gpu::store_global(
        reinterpret_cast<uint32_t*>(out + at),
        Half::Pack(Activate(g.x, p.activation) * u.x, Activate(g.y, p.activation) * u.y));
  }
}

}  // namespace

cudaError_t LaunchGatedActivation(const GatedActivationParams& params, cudaStream_t stream) {
  if (params.rows == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(params.rows),
                  static_cast<unsigned>((params.width + kColumns - 1) / kColumns));
  return WithHalf(params.half, [&](auto tag) {
    return gpu::Launch("gated_activation", &GatedActivationKernel<decltype(tag)>, grid,
                       dim3(kThreads), 0, stream, params);
  });
}

}  // namespace sluice::cuda
