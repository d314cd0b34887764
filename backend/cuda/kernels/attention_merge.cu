#include "backend/cuda/kernels/attention_merge.h"

#include "backend/cuda/kernels/attention_fold.cuh"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 4;

// One warp per (merge, head); a lane folds four neighbouring dimensions. Bytes: parts * (dim + 1) *
// 4 read, dim * 2 written; three FLOPs per element. Bound by memory bandwidth: parts come from L2
// when the splits have just been computed.
template <class Half>
__global__ void __launch_bounds__(32 * kWarps)
    AttentionMergeKernel(const __grid_constant__ AttentionMergeParams p) {
  const int head = static_cast<int>(blockIdx.y) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (head >= p.heads) return;
  const AttentionMerge merge = p.merges[blockIdx.x];
  const int64_t to = static_cast<int64_t>(merge.query) * p.heads + head;
  for (int dim = gpu::lane_id() * 4; dim < p.dim; dim += 128) {
    SegmentFold fold;
    float4 o = make_float4(0, 0, 0, 0);
    SLUICE_UNROLL_4
    for (int i = 0; i < merge.parts; ++i) {
      const int64_t row =
          (static_cast<int64_t>(merge.partial) + static_cast<int64_t>(i) * merge.stride) * p.heads +
          head;
      const float lse = gpu::load_global(p.lse + row);
      if (lse == -INFINITY) continue;  // nothing seen: what the part holds may be undefined
      const float4 part =
          gpu::load_global(reinterpret_cast<const float4*>(p.partial + row * p.dim + dim));
      const SegmentFold::Weights weights = fold.Add(lse);
      o.x = SegmentFold::Put(o.x, part.x, weights);
      o.y = SegmentFold::Put(o.y, part.y, weights);
      o.z = SegmentFold::Put(o.z, part.z, weights);
      o.w = SegmentFold::Put(o.w, part.w, weights);
    }
    const float inverse = fold.Inverse();
    o = make_float4(Normalize(o.x, inverse), Normalize(o.y, inverse), Normalize(o.z, inverse),
                    Normalize(o.w, inverse));
    if (p.out != nullptr) {
      gpu::store_global(
          reinterpret_cast<uint2*>(static_cast<typename Half::Type*>(p.out) + to * p.dim + dim),
          make_uint2(Half::Pack(o.x, o.y), Half::Pack(o.z, o.w)));
    }
    if (p.out_float != nullptr) {
      gpu::store_global(reinterpret_cast<float4*>(p.out_float + to * p.dim + dim), o);
    }
    if (dim == 0 && p.out_lse != nullptr) gpu::store_global(p.out_lse + to, fold.Lse());
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
