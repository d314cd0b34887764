// One block: 64 query rows (tokens times heads of a group) against their KV.
//
// FLOPs: 4 * 64 * D per KV token of the tile. Bytes: 2 * D * element per KV token from L2 or
// memory, i.e. 64 FLOPs per byte at 16 bits; blocks that share a KV head run side by side and find
// it in L2. Folding segments reads and writes 64 * D floats of scratch per segment of 512 tokens,
// in L2, a quarter of what the segment's 16-bit K and V are; contexts of one segment have none.
// Bound by tensor cores for long chunks.
#include "backend/cuda/kernels/attention_launch.cuh"

namespace sluice::cuda {

cudaError_t LaunchPrefillAttention(const AttentionParams& params, cudaStream_t stream) {
  return LaunchAttention<AttentionTile::kPrefill>(params, stream);
}

}  // namespace sluice::cuda
