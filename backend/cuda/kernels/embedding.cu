#include "backend/cuda/kernels/embedding.h"

#include "backend/cuda/kernels/half.cuh"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;

// One block per token. Bytes: hidden * (2 read + 4 written). Bound by memory bandwidth.
template <class Half>
__global__ void __launch_bounds__(kThreads)
    EmbeddingKernel(const __grid_constant__ EmbeddingParams p) {
  const int64_t i = blockIdx.x;
  int32_t token = p.tokens[i];
  if (token < 0) token = max(p.drawn[-1 - token], 0);
  const auto* from =
      static_cast<const typename Half::Type*>(p.table) + static_cast<int64_t>(token) * p.hidden;
  float* to = p.residual + i * p.hidden;
  for (int at = 2 * static_cast<int>(threadIdx.x); at < p.hidden; at += 2 * kThreads) {
    const uint32_t two = gpu::load_global_nc(reinterpret_cast<const uint32_t*>(from + at));
    gpu::store_global(reinterpret_cast<float2*>(to + at), Half::Unpack(two));
  }
}

}  // namespace

cudaError_t LaunchEmbedding(const EmbeddingParams& params, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  return WithHalf(params.half, [&](auto tag) {
    return gpu::Launch("embedding", &EmbeddingKernel<decltype(tag)>,
                       dim3(static_cast<unsigned>(params.count)), dim3(kThreads), 0, stream,
                       params);
  });
}

}  // namespace sluice::cuda
