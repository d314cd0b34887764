#include "backend/cuda/kernels/scale_product.h"

#include "backend/cuda/kernels/half.cuh"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;

// Two neighbours of a row per thread. Bytes: 4 read and 2 or 4 written per element; scales and bias
// are shared by a row or a column and come from caches. Bound by memory bandwidth.
template <class Half>
__global__ void __launch_bounds__(kThreads)
    ScaleProductKernel(const __grid_constant__ ScaleProductParams p) {
  const int column = 2 * static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (column >= p.n) return;
  const int64_t row = blockIdx.y;
  const int64_t at = row * p.n + column;
  const float scale = p.rows[row];
  const float2 raw = gpu::load_global_streaming(reinterpret_cast<const float2*>(p.raw + at));
  const float2 columns = gpu::load_global_nc(reinterpret_cast<const float2*>(p.columns + column));
  float2 bias = make_float2(0, 0);
  if (p.bias != nullptr) {
    const auto* two = static_cast<const typename Half::Type*>(p.bias) + column;
    bias = Half::Unpack(gpu::load_global_nc(reinterpret_cast<const uint32_t*>(two)));
  }
  const float x = raw.x * (scale * columns.x) + bias.x;
  const float y = raw.y * (scale * columns.y) + bias.y;
  if (p.float_out) {
    gpu::store_global(reinterpret_cast<float2*>(static_cast<float*>(p.c) + at), make_float2(x, y));
  } else {
    auto* c = static_cast<typename Half::Type*>(p.c) + at;
    gpu::store_global(reinterpret_cast<uint32_t*>(c), Half::Pack(x, y));
  }
}

}  // namespace

cudaError_t LaunchScaleProduct(const ScaleProductParams& params, cudaStream_t stream) {
  if (params.n % 2 != 0) return cudaErrorInvalidValue;
  if (params.m == 0 || params.n == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>((params.n / 2 + kThreads - 1) / kThreads),
                  static_cast<unsigned>(params.m));
  return WithHalf(params.half, [&](auto tag) {
    return gpu::Launch("scale_product", &ScaleProductKernel<decltype(tag)>, grid, dim3(kThreads), 0,
                       stream, params);
  });
}

}  // namespace sluice::cuda
