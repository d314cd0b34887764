// Paged attention over the device pool, for prefill and decode alike.
//
// softmax(q K^T / sqrt(head_dim)) V with a causal limit, page by page with a running maximum and
// sum (Milakov & Gimelshein 2018; Dao et al. 2022). q is float; K and V are the pool's elements;
// sums are float.
//
// The query rows of one kv head are its tokens times the heads of its group. They are computed in
// tiles, so that a page is read once for all rows of a tile. The arithmetic of a row is a fixed
// sequence that depends on its position and its keys only: tiles, chunks and batches do not show.
//
// Leading blocks may lie in the host pool instead, and are attended to in place. Their pages are
// folded into the same running maximum and sum as the others, in token order: there is no partial
// output to merge, and where a block lies does not show in a single bit either. K of a chunk of a
// host block is turned into the device's layout in the worker's scratch, V is read where it is if
// its rows are whole cache lines. Encoded host blocks (KvPools::host_codec) are decoded there, too,
// K and V, chunk by chunk: to the numbers a load would bring, so that their bits are a load's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/kv_layout.h"
#include "backend/kv/kv_codec.h"

namespace sluice {

// One sequence in one layer.
struct AttentionInput {
  const KvLayout* layout = nullptr;
  const std::byte* pages = nullptr;  // KvPools::LayerPages
  std::span<const BlockId> blocks;   // at least enough for first + tokens
  // Empty, or by leading block: valid where the block lies in the host pool (its entry of `blocks`
  // is not looked at then). Such blocks are full and end at or before `first`.
  std::span<const BlockId> host_blocks;
  const std::byte* host = nullptr;      // HostLayer() of host block 0
  const KvCodec* host_codec = nullptr;  // of the host pool; null or one that decodes_heads()
  int64_t group = 1;                    // query heads per kv head
  int64_t first = 0;  // position of query token 0; KV up to the tile's last token is in place
  const float* queries =
      nullptr;  // query token t, head h: queries + t * query_stride + h * head_dim
  int64_t query_stride = 0;
  void* out = nullptr;  // elements of `layout`; token t, head h as for queries
  int64_t out_stride = 0;
};

// Row r of a kv head is query token r / group, head kv_head * group + r % group.
inline constexpr int64_t kAttentionTileRows = 32;

// Memory of one worker. Reused from call to call.
class AttentionScratch {
 public:
  explicit AttentionScratch(const KvLayout& layout);

 private:
  friend struct AttentionScratchView;
  std::vector<float> memory_;
};

// Computes rows [row, row + rows) of `kv_head`. REQUIRES: 0 < rows <= kAttentionTileRows.
void AttendTile(const AttentionInput& in, int64_t kv_head, int64_t row, int64_t rows,
                AttentionScratch& scratch);

}  // namespace sluice
