#include "backend/cuda/kernels/rms_norm.h"

#include "backend/cuda/kernels/half.cuh"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// One block per row. Bytes: hidden * (4 read + 4 written + 2 + 2), the second reading of the row
// comes from L1. Bound by memory bandwidth, and for one row by latency.
template <class Half>
__global__ void __launch_bounds__(kThreads) RmsNormKernel(const __grid_constant__ RmsNormParams p) {
  SLUICE_SHARED(float[kWarps], sums);
  using Element = typename Half::Type;
  const int64_t i = blockIdx.x;
  const int64_t row = p.rows == nullptr ? i : p.rows[i];
  float* residual = p.residual + row * p.hidden;
  const auto* delta = static_cast<const Element*>(p.delta) + i * p.hidden;
  const int thread = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int at = 2 * thread; at < p.hidden; at += 2 * kThreads) {
    auto* two = reinterpret_cast<float2*>(residual + at);
    float2 x = gpu::load_global(two);
    if (p.delta != nullptr) {
      const float2 d =
          Half::Unpack(gpu::load_global(reinterpret_cast<const uint32_t*>(delta + at)));
      x = make_float2(x.x + d.x, x.y + d.y);
      gpu::store_global(two, x);
    }
    sum = fmaf(x.x, x.x, fmaf(x.y, x.y, sum));
  }
  if (p.out == nullptr) return;
  sum = WarpSum(sum);
  if (gpu::lane_id() == 0) sums[thread / 32] = sum;
  __syncthreads();
  sum = 0;
  SLUICE_UNROLL
  for (int w = 0; w < kWarps; ++w) sum += sums[w];
  const float scale = rsqrtf(sum / static_cast<float>(p.hidden) + p.eps);
  auto* out = static_cast<Element*>(p.out) + i * p.hidden;
  const auto* weight = static_cast<const Element*>(p.weight);
  for (int at = 2 * thread; at < p.hidden; at += 2 * kThreads) {
    const float2 x = gpu::load_global(reinterpret_cast<const float2*>(residual + at));
    const float2 w =
        Half::Unpack(gpu::load_global_nc(reinterpret_cast<const uint32_t*>(weight + at)));
    gpu::store_global(reinterpret_cast<uint32_t*>(out + at),
                      Half::Pack(x.x * scale * w.x, x.y * scale * w.y));
  }
}

}  // namespace

cudaError_t LaunchRmsNorm(const RmsNormParams& params, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  return WithHalf(params.half, [&](auto tag) {
    return gpu::Launch("rms_norm", &RmsNormKernel<decltype(tag)>,
                       dim3(static_cast<unsigned>(params.count)), dim3(kThreads), 0, stream,
                       params);
  });
}

}  // namespace sluice::cuda
