#include "tests/cuda_on_cpu/backend/pattern_kernels.h"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 32;

__global__ void FillPageKernel(PagePattern p) {
  for (int i = static_cast<int>(threadIdx.x); i < p.count; i += kThreads) {
    p.words[i] = PatternWord(p.first, i);
  }
}

__global__ void CheckPageKernel(PagePattern p) {
  uint32_t wrong = 0;
  for (int i = static_cast<int>(threadIdx.x); i < p.count; i += kThreads) {
    wrong += p.words[i] != PatternWord(p.first, i) ? 1u : 0u;
  }
  if (wrong != 0) atomicAdd(p.errors, wrong);
}

}  // namespace

cudaError_t FillPage(const PagePattern& pattern, cudaStream_t stream) {
  return gpu::Launch("fill_page", &FillPageKernel, dim3(1), dim3(kThreads), 0, stream, pattern);
}
cudaError_t CheckPage(const PagePattern& pattern, cudaStream_t stream) {
  return gpu::Launch("check_page", &CheckPageKernel, dim3(1), dim3(kThreads), 0, stream, pattern);
}

}  // namespace sluice::cuda
