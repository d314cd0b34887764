// One block: 16 query rows (the heads of a group, of one token or a few) against a range of KV.
//
// Bytes: every K and V row of the range once, 2 * tokens * D * element, besides q and out; where
// the KV of a tile is split, a part of group * (D + 1) floats per token and segment of 512, written
// and read again: 3 % of the segment's 16-bit K and V for D = 128 and a group of 8. A block that
// folds several segments itself reads and writes as much scratch, in L2. FLOPs: 4 * 16 * D per KV
// token, of which 4 * group * D are of use; at 16 bits per element that is 16 FLOPs per byte, far
// below what tensor cores do per byte of memory bandwidth. Two barriers more per tile than the
// prefill kernel has: warps agree on maxima and exchange 2 KB of weights. Bound by memory
// bandwidth, or by the host link where the KV lies there.
#include "backend/cuda/kernels/attention_launch.cuh"

namespace sluice::cuda {

cudaError_t LaunchDecodeAttention(const AttentionParams& params, cudaStream_t stream) {
  return LaunchAttention<AttentionTile::kDecode>(params, stream);
}

}  // namespace sluice::cuda
