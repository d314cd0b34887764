#include "backend/cuda/kernels/attention_merge.h"

#include <math.h>

#include "backend/cuda/kernels/half.cuh"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 4;

// One warp per (merge, head). Bytes: parts * (dim + 1) * 4 read, dim * 2 written; two FLOPs per
// element. Bound by memory bandwidth: parts come from L2 when the splits have just been computed.
template <class Half>
__global__ void __launch_bounds__(32 * kWarps)
    AttentionMergeKernel(const __grid_constant__ AttentionMergeParams p) {
  const int head = static_cast<int>(blockIdx.y) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (head >= p.heads) return;
  const AttentionMerge merge = p.merges[blockIdx.x];
  const auto row = [&](int part) {
    return (static_cast<int64_t>(merge.partial) + static_cast<int64_t>(part) * merge.stride) *
               p.heads +
           head;
  };
  const int lane = gpu::lane_id();
  float maximum = -INFINITY;
  for (int i = lane; i < merge.parts; i += 32) {
    maximum = fmaxf(maximum, gpu::load_global(p.lse + row(i)));
  }
  maximum = WarpMax(maximum);
  const float base = maximum == -INFINITY ? 0.0F : maximum;
  float sum = 0;
  for (int i = lane; i < merge.parts; i += 32) {
    sum += gpu::fast_exp2(gpu::load_global(p.lse + row(i)) - base);
  }
  sum = WarpSum(sum);
  const float inverse = sum > 0 ? 1.0F / sum : 0.0F;
  const int64_t to = static_cast<int64_t>(merge.query) * p.heads + head;
  if (lane == 0 && p.out_lse != nullptr) {
    gpu::store_global(p.out_lse + to, sum > 0 ? base + log2f(sum) : -INFINITY);
  }
  for (int dim = lane * 4; dim < p.dim; dim += 128) {
    float4 o = make_float4(0, 0, 0, 0);
    for (int i = 0; i < merge.parts; ++i) {
      const float weight = gpu::fast_exp2(gpu::load_global(p.lse + row(i)) - base) * inverse;
      if (weight == 0) continue;  // nothing seen: what the part holds may be undefined
      const float4 part =
          gpu::load_global(reinterpret_cast<const float4*>(p.partial + row(i) * p.dim + dim));
      o.x = fmaf(part.x, weight, o.x);
      o.y = fmaf(part.y, weight, o.y);
      o.z = fmaf(part.z, weight, o.z);
      o.w = fmaf(part.w, weight, o.w);
    }
    if (p.out != nullptr) {
      gpu::store_global(
          reinterpret_cast<uint2*>(static_cast<typename Half::Type*>(p.out) + to * p.dim + dim),
          make_uint2(Half::Pack(o.x, o.y), Half::Pack(o.z, o.w)));
    }
    if (p.out_float != nullptr) {
      gpu::store_global(reinterpret_cast<float4*>(p.out_float + to * p.dim + dim), o);
    }
  }
}

}  // namespace

cudaError_t LaunchAttentionMerge(const AttentionMergeParams& params, cudaStream_t stream) {
  if (params.merge_count == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(params.merge_count),
                  static_cast<unsigned>((params.heads + kWarps - 1) / kWarps));
  return WithHalf(params.half, [&](auto tag) {
    return gpu::Launch("attention_merge", &AttentionMergeKernel<decltype(tag)>, grid,
                       dim3(32 * kWarps), 0, stream, params);
  });
}

}  // namespace sluice::cuda
