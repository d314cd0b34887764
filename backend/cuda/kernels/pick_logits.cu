#include "backend/cuda/kernels/pick_logits.h"

#include "backend/cuda/gpu/memory.h"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;

// One thread per row; a sector of 32 bytes read each.
__global__ void __launch_bounds__(kThreads)
    PickLogitsKernel(const __grid_constant__ PickLogitsParams p) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= p.count) return;
  const int32_t token = gpu::load_global(p.tokens + i);
  const bool known = token >= 0 && token < p.vocab;
  const int64_t at = static_cast<int64_t>(i) * p.vocab + (known ? token : 0);
  gpu::store_global(p.out + i, known ? gpu::load_global(p.logits + at) : 0.0F);
}

}  // namespace

cudaError_t LaunchPickLogits(const PickLogitsParams& params, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  return gpu::Launch("pick_logits", &PickLogitsKernel,
                     dim3(static_cast<unsigned>((params.count + kThreads - 1) / kThreads)),
                     dim3(kThreads), 0, stream, params);
}

}  // namespace sluice::cuda
