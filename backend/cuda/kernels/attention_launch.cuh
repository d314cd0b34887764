// attention_launch.cuh: from AttentionParams to the kernel with the right types. For the two kernel
// sources attention_decode.cu and attention_prefill.cu.
#pragma once

#include "backend/cuda/kernels/attention_block.cuh"

namespace sluice::cuda {

template <class Half, class Shape, bool kQuantized>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinBlocks)
    AttentionKernel(const __grid_constant__ AttentionParams params) {
  SLUICE_DYNAMIC_SMEM(raw);
  gpu::SharedCarver carver(raw);
  const AttentionShared<Half, Shape> shared(carver);
  const AttentionWork work = params.works[blockIdx.x];
  AttentionBlock<Half, Shape, kQuantized> block(params, work, shared, static_cast<int>(blockIdx.y));
  block.Run();
}

template <class Half, class Shape, bool kQuantized>
cudaError_t LaunchAttentionKernel(const AttentionParams& params, cudaStream_t stream) {
  const auto kernel = &AttentionKernel<Half, Shape, kQuantized>;
  const size_t shared_bytes = AttentionShared<Half, Shape>::Bytes();
  const cudaError_t allowed = gpu::AllowSharedBytes(kernel, shared_bytes);
  if (allowed != cudaSuccess) return allowed;
  const dim3 grid(static_cast<unsigned>(params.work_count), static_cast<unsigned>(params.kv_heads));
  return gpu::Launch(Shape::kDecode ? "attention_decode" : "attention_prefill", kernel, grid,
                     dim3(Shape::kThreads), shared_bytes, stream, params);
}

template <class Half, AttentionTile kTile, bool kQuantized>
cudaError_t LaunchForHeadDim(const AttentionParams& params, cudaStream_t stream) {
  switch (params.head_dim) {
    case 32:
      return LaunchAttentionKernel<Half, AttentionShape<32, kTile>, kQuantized>(params, stream);
    case 64:
      return LaunchAttentionKernel<Half, AttentionShape<64, kTile>, kQuantized>(params, stream);
    case 80:
      return LaunchAttentionKernel<Half, AttentionShape<80, kTile>, kQuantized>(params, stream);
    case 96:
      return LaunchAttentionKernel<Half, AttentionShape<96, kTile>, kQuantized>(params, stream);
    case 128:
      return LaunchAttentionKernel<Half, AttentionShape<128, kTile>, kQuantized>(params, stream);
    case 256:
      return LaunchAttentionKernel<Half, AttentionShape<256, kTile>, kQuantized>(params, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <AttentionTile kTile>
cudaError_t LaunchAttention(const AttentionParams& params, cudaStream_t stream) {
  if (params.work_count == 0) return cudaSuccess;
  return WithHalf(params.half, [&](auto tag) {
    using Half = decltype(tag);
    return params.kv == KvType::kHalf ? LaunchForHeadDim<Half, kTile, false>(params, stream)
                                      : LaunchForHeadDim<Half, kTile, true>(params, stream);
  });
}

}  // namespace sluice::cuda
