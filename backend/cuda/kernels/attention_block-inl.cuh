// attention_block-inl.cuh: the bodies of attention_block.cuh, but for the output.
#pragma once

#include "backend/cuda/kernels/attention_block.cuh"
#include "backend/cuda/kernels/attention_output-inl.cuh"

namespace sluice::cuda {

#define SLUICE_ATTENTION(type)                        \
  template <class Half, class Shape, bool kQuantized> \
  __device__ __forceinline__ type AttentionBlock<Half, Shape, kQuantized>

SLUICE_ATTENTION()::AttentionBlock(const AttentionParams& params, const AttentionWork& work,
                                   const AttentionShared<Half, Shape>& shared, int kv_head)
    : params_(params), work_(work), shared_(shared) {
  const KvView& view = params.views[0];
  blocks_ = view.blocks + work.blocks;
  head_offset_ = kv_head * view.head_stride;
  value_offset_ = view.value_offset;
  token_stride_ = view.token_stride;
  block_tokens_ = view.block_tokens;
  if constexpr (kQuantized) {
    scale_offset_ = static_cast<int32_t>(view.scale_offset) + kv_head * view.scale_head_stride;
    scale_token_stride_ = view.scale_token_stride;
    scale_group_ = view.scale_group;
  }
  group_ = params.heads / params.kv_heads;
  group_inverse_ = 65536 / group_ + 1;  // exact for rows below 64 and groups up to 64
  head_ = kv_head * group_;
  rows_ = work.count * group_;

  const int window = params.window > 0 ? params.window : 0x40000000;
  begin_ = max(work.kv_begin, work.position - window + 1);
  end_ = min(work.kv_end, work.position + work.count);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  warp_m_ = warp % Shape::kWarpsM;
  warp_n_ = warp / Shape::kWarpsM;
  quad_ = gpu::lane_id() / 4;
  pair_ = gpu::lane_id() % 4;
  const int row = warp_m_ * 16;
  warp_low_ = max(begin_, work.position + Token(row + 15) - window + 1);
  warp_high_ = min(end_ - 1, work.position + Token(row));
  scale_log2_ = params.scale * 1.44269504088896341F;
  Clear();
}

// Begins a segment.
SLUICE_ATTENTION(void)::Clear() {
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    base_[r] = -INFINITY;
    SLUICE_UNROLL
    for (int i = 0; i < Shape::kSums; ++i) sum_[r][i] = 0;
  }
  SLUICE_UNROLL
  for (int i = 0; i < kDimTiles; ++i) o_[i][0] = o_[i][1] = o_[i][2] = o_[i][3] = 0;
}

template <class Half, class Shape, bool kQuantized>
__device__ __forceinline__ typename AttentionBlock<Half, Shape, kQuantized>::Place
AttentionBlock<Half, Shape, kQuantized>::PlaceOf(int token) const {
  const auto n = static_cast<uint32_t>(token);
  const uint32_t entry = Divide(n, block_tokens_);
  const int32_t block = gpu::load_global_nc(blocks_ + entry);
  return {BlockAt(params_.views, block) + head_offset_,
          static_cast<int32_t>(n - entry * block_tokens_.divisor)};
}

SLUICE_ATTENTION(void)::LoadQueries() {
  constexpr int kPiecesOfRow = kDim / 8;
  constexpr int kQueryPieces = Shape::kRows * kPiecesOfRow;
  const auto* q = static_cast<const Element*>(params_.q);
  SLUICE_UNROLL_4
  for (int i = 0; i < (kQueryPieces + kThreads - 1) / kThreads; ++i) {
    const int c = static_cast<int>(threadIdx.x) + i * kThreads;
    if (kQueryPieces % kThreads != 0 && c >= kQueryPieces) break;
    const int row = c / kPiecesOfRow;
    const int piece = c % kPiecesOfRow;
    const bool valid = row < rows_;
    const int token = Token(valid ? row : 0);
    const Element* source = q + (work_.query + token) * params_.q_stride +
                            (head_ + (valid ? row - token * group_ : 0)) * kDim + piece * 8;
    gpu::cp_async16(shared_.q + At::At(row, piece), source, valid);
  }
}

// Starts the copy of KV tile `tile`, counted from position 0. Tokens that no row sees become zero:
// their weights are zero, and zero times what an unwritten slot holds need not be.
SLUICE_ATTENTION(void)::LoadTile(int tile) {
  const int thread = Thread();
  SLUICE_UNROLL_4
  for (int i = 0; i < kPieces; ++i) {
    const int c = thread + i * kThreads;
    if (kTilePieces % kThreads != 0 && c >= kTilePieces) break;
    const int row = c / kRowPieces;
    const int piece = c % kRowPieces;
    const int token = tile * kTile + row;
    const bool valid = token >= begin_ && token < end_;
    const auto* source = static_cast<const unsigned char*>(params_.views[0].data);
    if (valid) {
      const Place place = PlaceOf(token);
      source = place.block + static_cast<int64_t>(place.within) * token_stride_ + piece * 16;
    }
    unsigned char* key;
    unsigned char* value;
    if constexpr (kQuantized) {
      key = shared_.kv + tile % Shape::kStages * 2 * Shape::kTileElements + c * 16;
      value = key + Shape::kTileElements;
    } else {
      key = reinterpret_cast<unsigned char*>(TileOf(tile, 0) + At::At(row, piece));
      value = reinterpret_cast<unsigned char*>(TileOf(tile, 1) + At::At(row, piece));
    }
    gpu::cp_async16(key, source, valid);
    gpu::cp_async16(value, source + value_offset_, valid);
  }
}

// The scales (bf16, K low, V high) of piece `piece` of this thread in `tile`.
SLUICE_ATTENTION(uint32_t)::ScalesOf(int tile, int piece) const {
  const int c = Thread() + piece * kThreads;
  const int token = tile * kTile + c / kRowPieces;
  if (token < begin_ || token >= end_ || (kTilePieces % kThreads != 0 && c >= kTilePieces))
    return 0;
  const Place place = PlaceOf(token);
  const uint32_t group = Divide(static_cast<uint32_t>(c % kRowPieces) * 16, scale_group_);
  const unsigned char* source = place.block - head_offset_ + scale_offset_ +
                                static_cast<int64_t>(place.within) * scale_token_stride_ +
                                2 * group;
  const uint32_t key = gpu::load_global_nc(reinterpret_cast<const uint16_t*>(source));
  const uint32_t value =
      gpu::load_global_nc(reinterpret_cast<const uint16_t*>(source + value_offset_));
  return key | value << 16;
}

SLUICE_ATTENTION(void)::LoadScales(int tile) {
  SLUICE_UNROLL
  for (int i = 0; i < kPieces; ++i) scales_[i] = ScalesOf(tile, i);
}

SLUICE_ATTENTION(void)::DequantizePiece(int tile, int piece, uint32_t scales) const {
  const unsigned char* codes = shared_.kv + tile % Shape::kStages * 2 * Shape::kTileElements;
  const int c = Thread() + piece * kThreads;
  if (kTilePieces % kThreads != 0 && c >= kTilePieces) return;
  const int row = c / kRowPieces;
  const int chunk = c % kRowPieces * 2;
  SLUICE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const uint4 w = gpu::lds128(codes + half * Shape::kTileElements + c * 16);
    const float scale = half == 0 ? gpu::bf16_lo(scales) : gpu::bf16_hi(scales);
    const uint2 a = Dequantize4<Half>(w.x, scale, params_.kv);
    const uint2 b = Dequantize4<Half>(w.y, scale, params_.kv);
    const uint2 d = Dequantize4<Half>(w.z, scale, params_.kv);
    const uint2 e = Dequantize4<Half>(w.w, scale, params_.kv);
    const uint4 both[2] = {make_uint4(a.x, a.y, b.x, b.y), make_uint4(d.x, d.y, e.x, e.y)};
    // In long rows every other four threads begin with the second chunk: one pass per store.
    const bool swap = kDim % 128 == 0 && (c & 4) != 0;
    Element* to = TileOf(tile, half);
    gpu::sts128(to + At::At(row, chunk + (swap ? 1 : 0)), swap ? both[1] : both[0]);
    gpu::sts128(to + At::At(row, chunk + (swap ? 0 : 1)), swap ? both[0] : both[1]);
  }
}

// Turns the codes that this thread has copied into halves, for all threads to read.
SLUICE_ATTENTION(void)::DequantizeTile(int tile) const {
  if constexpr (kScalesAhead) {
    SLUICE_UNROLL
    for (int i = 0; i < kPieces; ++i) DequantizePiece(tile, i, scales_[i]);
  } else {
    SLUICE_UNROLL_2
    for (int i = 0; i < kPieces; ++i) DequantizePiece(tile, i, ScalesOf(tile, i));
  }
}

// Rows of the warp, dimensions [16 step, + 16).
SLUICE_ATTENTION(void)::QueryFragment(uint32_t (&a)[4], int step, int lane) const {
  gpu::ldmatrix_x4<false>(a, shared_.q + At::At(warp_m_ * 16 + (lane & 15), step * 2 + lane / 16));
}

SLUICE_ATTENTION(void)::Score(float (&s)[kTokenTiles][4], const Element* keys) const {
  const int lane = Lane();
  const int first = warp_n_ * Shape::kWarpTokens;
  SLUICE_UNROLL
  for (int n = 0; n < kTokenTiles; ++n) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0;
  SLUICE_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    uint32_t a[4];
    if constexpr (Shape::kQueriesInRegisters) {
      SLUICE_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = queries_[step][i];
    } else {
      QueryFragment(a, step, lane);
    }
    SLUICE_UNROLL
    for (int n = 0; n < kTokenTiles; n += 2) {
      uint32_t b[4];  // tokens 0-7: dimensions low, high; tokens 8-15 likewise
      const int row = first + n * 8 + (lane & 7) + (lane / 16) * 8;
      gpu::ldmatrix_x4<false>(b, keys + At::At(row, step * 2 + ((lane >> 3) & 1)));
      Half::Mma(s[n], a, b[0], b[1]);
      Half::Mma(s[n + 1], a, b[2], b[3]);
    }
  }
}

// Tile row `row` sees tokens [low, high].
SLUICE_ATTENTION(void)::Seen(int row, int32_t& low, int32_t& high) const {
  const int position = work_.position + Token(row);
  const int window = params_.window > 0 ? params_.window : 0x40000000;
  low = max(begin_, position - window + 1);
  high = min(end_ - 1, position);
}

// Hides what a row does not see. `first`: token of the warp's first column.
SLUICE_ATTENTION(void)::Mask(float (&s)[kTokenTiles][4], int first) const {
  int32_t low[2], high[2];
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) Seen(warp_m_ * 16 + Lane() / 4 + 8 * r, low[r], high[r]);
  SLUICE_UNROLL
  for (int n = 0; n < kTokenTiles; ++n) {
    SLUICE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int token = first + n * 8 + pair_ * 2 + (i & 1);
      if (token < low[i >> 1] || token > high[i >> 1]) s[n][i] = -INFINITY;
    }
  }
}

// The largest score of rows quad_ and quad_ + 8 in the tile.
SLUICE_ATTENTION(void)::TileMaximum(float (&maximum)[2], const float (&s)[kTokenTiles][4]) const {
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    maximum[r] = -INFINITY;
    SLUICE_UNROLL
    for (int n = 0; n < kTokenTiles; ++n) {
      maximum[r] = fmaxf(maximum[r], fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    }
    maximum[r] = fmaxf(maximum[r], __shfl_xor_sync(0xffffffffu, maximum[r], 1));
    maximum[r] = fmaxf(maximum[r], __shfl_xor_sync(0xffffffffu, maximum[r], 2));
    if constexpr (kExchange) {
      if (pair_ == 0) shared_.maxima[warp_n_ * 16 + quad_ + 8 * r] = maximum[r];
    }
  }
  if constexpr (kExchange) {
    __syncthreads();  // all maxima are there
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      SLUICE_UNROLL
      for (int w = 0; w < Shape::kWarpsN; ++w) {
        maximum[r] = fmaxf(maximum[r], shared_.maxima[w * 16 + quad_ + 8 * r]);
      }
    }
  }
}

// Scores become weights relative to the running maximum; what was summed before is scaled to it.
// Where the maximum stays, the factor is 2^0: exactly one.
SLUICE_ATTENTION(void)::Softmax(float (&s)[kTokenTiles][4]) {
  float maximum[2];
  TileMaximum(maximum, s);
  SLUICE_UNROLL
  for (int r = 0; r < 2; ++r) {
    const float base = fmaxf(base_[r], __fmul_rn(maximum[r], scale_log2_));
    // A row that has seen nothing yet keeps weights of zero instead of inf - inf.
    const float shift = base == -INFINITY ? 0.0F : base;
    const float correction = gpu::fast_exp2(__fadd_rn(base_[r], -shift));
    base_[r] = base;
    SLUICE_UNROLL
    for (int g = 0; g < Shape::kSums; ++g) {
      float x[4];
      SLUICE_UNROLL
      for (int i = 0; i < 4; ++i) {
        float& score = s[2 * g + i / 2][2 * r + i % 2];
        score = x[i] = gpu::fast_exp2(__fmaf_rn(score, scale_log2_, -shift));
      }
      sum_[r][g] = __fmaf_rn(sum_[r][g], correction,
                             __fadd_rn(__fadd_rn(x[0], x[1]), __fadd_rn(x[2], x[3])));
    }
    SLUICE_UNROLL
    for (int i = 0; i < kDimTiles; ++i) {
      o_[i][2 * r] *= correction;
      o_[i][2 * r + 1] *= correction;
    }
  }
}

// o += P V, 16 tokens after another. The layout of S is that of the first operand: the weights of a
// warp's own tokens need no exchange.
SLUICE_ATTENTION(void)::Gather(const float (&s)[kTokenTiles][4], const Element* values) {
  const int lane = Lane();
  if constexpr (kExchange) {
    SLUICE_UNROLL
    for (int n = 0; n < kTokenTiles; ++n) {
      SLUICE_UNROLL
      for (int r = 0; r < 2; ++r) {
        auto* place =
            shared_.weights + WeightAt::At(quad_ + 8 * r, warp_n_ * kTokenTiles + n) + pair_ * 2;
        gpu::store_shared(reinterpret_cast<uint32_t*>(place),
                          Half::Pack(s[n][2 * r], s[n][2 * r + 1]));
      }
    }
    __syncthreads();  // all weights are there
  }
  SLUICE_UNROLL
  for (int step = 0; step < kTile / 16; ++step) {
    uint32_t p[4];
    if constexpr (kExchange) {
      gpu::ldmatrix_x4<false>(p, shared_.weights + WeightAt::At(lane & 15, step * 2 + lane / 16));
    } else {
      SLUICE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float(&score)[4] = s[2 * step + i / 2];
        p[i] = Half::Pack(score[i % 2 * 2], score[i % 2 * 2 + 1]);
      }
    }
    SLUICE_UNROLL
    for (int j = 0; j < Shape::kWarpPairs; ++j) {
      if (!HasPair(j)) break;
      uint32_t b[4];  // tokens low, high of dimensions 0-7, then of 8-15
      gpu::ldmatrix_x4<true>(
          b, values + At::At(step * 16 + (lane & 15), FirstColumn() + Column(2 * j) + lane / 16));
      Half::Mma(o_[2 * j], p, b[0], b[1]);
      Half::Mma(o_[2 * j + 1], p, b[2], b[3]);
    }
  }
}

SLUICE_ATTENTION(void)::Compute(int tile) {
  const int first = tile * kTile + warp_n_ * Shape::kWarpTokens;
  const int last = first + Shape::kWarpTokens - 1;
  if constexpr (!kExchange) {
    // A tile that no row of this warp sees: its last row ends at the position of row 15.
    if (first > min(end_ - 1, work_.position + Token(warp_m_ * 16 + 15))) return;
  }
  float s[kTokenTiles][4];
  Score(s, TileOf(tile, 0));
  if (first < warp_low_ || last > warp_high_) Mask(s, first);
  Softmax(s);
  Gather(s, TileOf(tile, 1));
}

SLUICE_ATTENTION(void)::Run() {
  if (end_ <= begin_) {
    WriteNothing();
    return;
  }
  const int first = begin_ / kTile;
  const int last = (end_ - 1) / kTile;
  LoadQueries();
  LoadTile(first);
  gpu::cp_async_commit();
  if constexpr (kScalesAhead) LoadScales(first);
  for (int tile = first; tile <= last; ++tile) {
    if (tile < last) LoadTile(tile + 1);
    gpu::cp_async_commit();
    gpu::cp_async_wait<1>();
    if constexpr (kQuantized) DequantizeTile(tile);
    if constexpr (kScalesAhead) {
      if (tile < last) LoadScales(tile + 1);
    }
    __syncthreads();  // everybody's part of the tile is there
    if constexpr (Shape::kQueriesInRegisters) {
      if (tile == first) {
        SLUICE_UNROLL
        for (int step = 0; step < kSteps; ++step) {
          QueryFragment(queries_[step], step, gpu::lane_id());
        }
      }
    }
    Compute(tile);
    __syncthreads();  // nobody reads the tile any more
    if ((tile + 1) % Shape::kSegmentTiles == 0 && tile < last) {
      EndSegment<false>(tile / Shape::kSegmentTiles);
    }
  }
  EndSegment<true>(last / Shape::kSegmentTiles);
}

#undef SLUICE_ATTENTION

}  // namespace sluice::cuda
