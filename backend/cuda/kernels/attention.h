// Paged attention, for decode, prefill and everything between, over K and V that lie in blocks.
//
//   out[t][h] = sum_j softmax_j(scale * q[t][h] . k[j]) v[j]     j: what token t may see
//
// A token at position p sees positions max(0, p - window + 1) .. p of its sequence (window 0: all
// of them). K and V of the step's own tokens are in the pool before this runs (rope_kv_write.h).
//
// A row's result is a function of its own sequence: neither the tile it shares, nor the kind of
// tile, nor how a prompt was cut into steps, nor how the work was split, nor which pool holds which
// block changes a bit of it. For that, KV tiles begin at fixed positions, every row's weights are
// summed and gathered in the order of positions, whoever does it, and KV is cut into segments of
// kAttentionSegment positions. Each segment is computed afresh; the results of segments are folded
// from left to right (attention_fold.cuh), by the block that has done them all or, where they are
// spread over several, by attention_merge.h. (Given that an mma gives a row the same bits wherever
// in the tile it stands, and that K and V are finite.)
//
// The work is a list of items, each one tile of a sequence's queries against a range of its KV; an
// item is done by one block per kv head. Items of sequences of any length go into one launch.
// attention_plan.h makes the lists.
//
// Blocks of a sequence may lie in two pools in any order: entries of the block table say which.
//
// Rows of a tile are (token, head of the group) pairs, so that K and V are read once for all heads
// of a group and a decode of 8 heads fills half a tensor-core tile.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

// Where a row's KV is cut: at multiples of this many positions. Results depend on it.
inline constexpr int32_t kAttentionSegment = 512;

// The entry of a block table for block `block` of the second pool (views[1]); a block of the first
// is its own entry.
constexpr int32_t InSecondPool(int32_t block) { return ~block; }

// One item: queries [query, query + count) of one sequence against its KV [kv_begin, kv_end).
struct AttentionWork {
  int32_t query = 0;     // first row of q and out
  int32_t count = 0;     // tokens; count * group <= AttentionTileRows(tile)
  int32_t position = 0;  // of the first token in its sequence
  int32_t kv_begin = 0;  // positions; what lies beyond the last query or before its window is
  int32_t kv_end = 0;    // skipped. Cut only at multiples of kAttentionSegment
  int32_t blocks = 0;    // entry of the sequence's first block in the block table
  // parts: the item writes the result of each of its segments; that of segment i, counted from that
  // of kv_begin, to the partial rows from partial + i * count on (none may be skipped whole).
  // Otherwise it writes out, and uses the `count` rows from `partial` on to hold what it has folded
  // so far; it needs none (-1) if there is one segment only.
  int32_t partial = -1;
  int32_t parts = 0;  // 1: yes; not for prefill tiles
};

// How many rows (tokens times heads per kv head) one item may have.
enum class AttentionTile : uint8_t {
  kDecode,   // 16 rows; warps share the tokens of a KV tile, then the columns of the output
  kPrefill,  // 64 rows; warps share the rows
};
constexpr int32_t AttentionTileRows(AttentionTile tile) {
  return tile == AttentionTile::kDecode ? 16 : 64;
}

struct AttentionParams {
  const void* q = nullptr;   // device, half [T][Hq][D]
  int64_t q_stride = 0;      // elements from token to token; multiple of 8
  void* out = nullptr;       // device, half [T][Hq][D], dense
  float* partial = nullptr;  // device, [partial rows][Hq][D]; the weights of a part sum to one
  float* lse = nullptr;      // device, [partial rows][Hq], base 2; minus infinity: saw nothing
  const AttentionWork* works = nullptr;  // device, [work_count]; the longest first is best
  int32_t work_count = 0;                // 0 is fine and launches nothing
  // Pools with pages of the same shape. views[0].blocks is the table of both: see InSecondPool().
  // Of views[1] only data and block_stride are read, and only if an entry names it.
  KvView views[2];
  int32_t heads = 0;     // Hq
  int32_t kv_heads = 0;  // Hkv; heads / kv_heads in [1, tile rows]
  int32_t head_dim = 0;  // 32, 64, 80, 96, 128 or 256
  int32_t window = 0;    // 0: none
  float scale = 0.0F;    // > 0; usually 1 / sqrt(head_dim)
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
