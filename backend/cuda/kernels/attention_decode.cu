// One block: 16 query rows (the heads of a group, of one token or a few) against a range of KV.
//
// Bytes: every K and V row of the range once, 2 * tokens * D * element, besides q and the partial
// result. FLOPs: 4 * 16 * D per token, of which 4 * group * D are of use; at 16 bits per element
// that is 16 FLOPs per byte, far below what tensor cores do per byte of memory bandwidth. Bound by
// memory bandwidth, or by the host link where the KV lies there.
#include "backend/cuda/kernels/attention_launch.cuh"

namespace sluice::cuda {

cudaError_t LaunchDecodeAttention(const AttentionParams& params, cudaStream_t stream) {
  return LaunchAttention<AttentionTile::kDecode>(params, stream);
}

}  // namespace sluice::cuda
