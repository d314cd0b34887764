// Paged attention, for decode, prefill and everything between, over K and V that lie in blocks.
//
//   out[t][h] = sum_j softmax_j(scale * q[t][h] . k[j]) v[j]     j: what token t may see
//
// A token at position p sees positions max(0, p - window + 1) .. p of its sequence (window 0: all
// of them). K and V of the step's own tokens are in the pool before this runs (rope_kv_write.h).
//
// The work is a list of items, each one tile of a sequence's queries against one range of its KV;
// an item is done by one block per kv head. Items of sequences of any length go into one launch. If
// several items share a query (split KV, or KV that lies in two pools), each writes a partial
// result and the base-2 logarithm of its softmax sum; attention_merge.h puts parts together
// exactly. attention_plan.h makes the lists.
//
// Rows of a tile are (token, head of the group) pairs, so that K and V are read once for all heads
// of a group and a decode of 8 heads fills half a tensor-core tile.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

// One item: queries [query, query + count) of one sequence against its KV [kv_begin, kv_end).
struct AttentionWork {
  int32_t query = 0;     // first row of q and out
  int32_t count = 0;     // tokens; count * group <= AttentionTileRows(tile)
  int32_t position = 0;  // of the first token in its sequence
  int32_t kv_begin = 0;  // positions; what lies beyond the last query or before its window is
  int32_t kv_end = 0;    // skipped
  int32_t blocks = 0;    // entry of the sequence's first block in the view's table
  int32_t view = 0;      // 0 or 1: index into AttentionParams::views
  int32_t partial = -1;  // -1: writes out; else first row of the partial buffers
};

// How many rows (tokens times heads per kv head) one item may have.
enum class AttentionTile : uint8_t {
  kDecode,   // 16 rows; warps share the KV range
  kPrefill,  // 64 rows; warps share the rows
};
constexpr int32_t AttentionTileRows(AttentionTile tile) {
  return tile == AttentionTile::kDecode ? 16 : 64;
}

struct AttentionParams {
  const void* q = nullptr;   // device, half [T][Hq][D]
  int64_t q_stride = 0;      // elements from token to token; multiple of 8
  void* out = nullptr;       // device, half [T][Hq][D], dense
  float* partial = nullptr;  // device, [partial rows][Hq][D]; each part sums to one
  float* lse = nullptr;      // device, [partial rows][Hq], base 2; minus infinity: saw nothing
  const AttentionWork* works = nullptr;  // device, [work_count]; the longest first is best
  int32_t work_count = 0;                // 0 is fine and launches nothing
  KvView views[2];                       // [1] is read only if an item names it
  int32_t heads = 0;                     // Hq
  int32_t kv_heads = 0;                  // Hkv; heads / kv_heads in [1, tile rows]
  int32_t head_dim = 0;                  // 32, 64, 80, 96, 128 or 256
  int32_t window = 0;                    // 0: none
  float scale = 0.0F;                    // > 0; usually 1 / sqrt(head_dim)
  HalfType half = HalfType::kBf16;
  KvType kv = KvType::kHalf;  // of both views
};

// Each enqueues one launch with its kind of tile; no allocation, no synchronization. REQUIRES what
// stands at the fields. Returns cudaErrorInvalidValue for a head_dim that has no kernel, else what
// the launch returns.
[[nodiscard]] cudaError_t LaunchDecodeAttention(const AttentionParams& params, cudaStream_t stream);
[[nodiscard]] cudaError_t LaunchPrefillAttention(const AttentionParams& params,
                                                 cudaStream_t stream);

}  // namespace sluice::cuda
