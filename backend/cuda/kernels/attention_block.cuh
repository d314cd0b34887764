// attention_block.cuh: one block's work on one item and one kv head, for decode and prefill tiles
// alike. For kernel sources only.
//
// kWarpsM warps times 16 query rows, kWarpsN warps that share the tokens of a KV tile. KV tiles
// come by cp.async into kStages buffers, one tile ahead of the arithmetic. S = Q K^T and P V run on
// tensor cores; a warp keeps S, the running maximum and sum and its part of the output in registers
// (Dao et al. 2022; Milakov & Gimelshein 2018).
//
// Whatever kWarpsN is, a row gets the same bits (attention.h says why that matters): tiles begin at
// multiples of kTile; warps that share tokens agree on the maximum of the tile and exchange their
// weights through shared memory, and then each gathers all tokens, in order, into columns of its
// own; sums of weights are kept for each 16 tokens of a tile and put together in one order. A tile
// of which a row sees nothing changes nothing of the row.
//
// 8-bit KV is copied as it is; each thread turns the bytes it has copied itself into halves.
#pragma once

#include <math.h>

#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/kernels/attention_fold.cuh"
#include "backend/cuda/kernels/half.cuh"
#include "backend/cuda/kernels/quantized.cuh"

namespace sluice::cuda {

template <int kHeadDimension, AttentionTile kTileKind>
struct AttentionShape {
  static constexpr bool kDecode = kTileKind == AttentionTile::kDecode;
  static constexpr int kHeadDim = kHeadDimension;
  static constexpr int kRows = AttentionTileRows(kTileKind);
  static constexpr int kWarpsM = kRows / 16;
  static constexpr int kWarpsN = kDecode ? (kHeadDim <= 128 ? 4 : 2) : 1;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  // Blocks per multiprocessor that registers must leave room for. Without a number the compiler
  // squeezes kernels under the next occupancy step, and spills.
  static constexpr int kMinBlocks = kHeadDim <= (kDecode ? 96 : 32) ? 3 : kHeadDim <= 128 ? 2 : 1;
  static constexpr int kTile = kHeadDim <= 128 ? 64 : 32;  // tokens
  static constexpr int kSegmentTiles = kAttentionSegment / kTile;
  static constexpr int kWarpTokens = kTile / kWarpsN;
  static constexpr int kSums = kWarpTokens / 16;  // of a row, in one warp
  static constexpr int kStages = 2;
  static constexpr bool kQueriesInRegisters = kHeadDim <= 128;
  // Pairs of 8 columns of the output: of a row, and of a warp, which has every kWarpsN-th.
  static constexpr int kPairs = kHeadDim / 16;
  static constexpr int kWarpPairs = (kPairs + kWarpsN - 1) / kWarpsN;
  // Elements of one buffer of K or V.
  static constexpr int kTileElements = kTile * kHeadDim;
  static constexpr int kKvBytes = kStages * 2 * kTileElements * 2;
  static_assert(kAttentionSegment % kTile == 0 && kWarpTokens % 16 == 0);
  static_assert(kWarpsN == 1 || kWarpsM == 1);
};

template <class Half, class Shape>
struct AttentionShared {
  static constexpr int kExchange = Shape::kWarpsN > 1 ? 1 : 0;
  typename Half::Type* q;  // [kRows][kHeadDim], swizzled; later the output
  unsigned char* kv;       // 16-bit: [kStages][K, V] tiles; 8-bit: codes of the same, then [K, V]
  typename Half::Type* weights;  // of a tile where warps share it: [16][kTile], swizzled
  float* maxima;                 // likewise, of each warp's tokens: [kWarpsN][16]
  float* sums;                   // likewise
  SegmentFold* folds;            // [2][kThreads]: of a lane's two rows
  __host__ __device__ explicit AttentionShared(gpu::SharedCarver& carver)
      : q(carver.Take<typename Half::Type>(Shape::kRows * Shape::kHeadDim)),
        kv(carver.Take<unsigned char>(Shape::kKvBytes)),
        weights(carver.Take<typename Half::Type>(kExchange * 16 * Shape::kTile)),
        maxima(carver.Take<float>(kExchange * Shape::kWarpsN * 16)),
        sums(carver.Take<float>(kExchange * Shape::kWarpsN * 16)),
        folds(carver.Take<SegmentFold>(2 * Shape::kThreads)) {}
  static size_t Bytes() {
    gpu::SharedCarver carver(nullptr);
    const AttentionShared shared(carver);
    static_cast<void>(shared);
    return carver.bytes();
  }
};

template <class Half, class Shape, bool kQuantized>
class AttentionBlock {
 public:
  __device__ __forceinline__ AttentionBlock(const AttentionParams& params,
                                            const AttentionWork& work,
                                            const AttentionShared<Half, Shape>& shared,
                                            int kv_head);

  // Attends, and writes the item's output or parts.
  __device__ __forceinline__ void Run();

 private:
  using Element = typename Half::Type;
  static constexpr int kDim = Shape::kHeadDim;
  static constexpr int kThreads = Shape::kThreads;
  static constexpr int kTile = Shape::kTile;
  static constexpr int kTokenTiles = Shape::kWarpTokens / 8;  // of a warp: columns of S
  static constexpr int kDimTiles = 2 * Shape::kWarpPairs;     // of a warp: columns of the output
  static constexpr bool kExchange = Shape::kWarpsN > 1;
  static constexpr int kSteps = kDim / 16;  // of Q K^T
  // 16-byte pieces of a row as it lies in the pool, of a tile, and of a tile per thread.
  static constexpr int kRowPieces = kDim / (kQuantized ? 16 : 8);
  static constexpr int kTilePieces = kTile * kRowPieces;
  static constexpr int kPieces = (kTilePieces + kThreads - 1) / kThreads;
  // Whether scales are read one tile ahead; rows of 256 leave no registers for that.
  static constexpr bool kScalesAhead = kQuantized && kDim <= 128;
  using At = Swizzle<kDim>;
  using WeightAt = Swizzle<kTile>;

  // This head's K of token 0 of the block that holds `token`, and the token's place in it.
  struct Place {
    const unsigned char* block;
    int32_t within;
  };
  __device__ __forceinline__ Place PlaceOf(int token) const;
  __device__ __forceinline__ void LoadQueries();
  __device__ __forceinline__ void LoadTile(int tile);
  __device__ __forceinline__ uint32_t ScalesOf(int tile, int piece) const;
  __device__ __forceinline__ void LoadScales(int tile);
  __device__ __forceinline__ void DequantizePiece(int tile, int piece, uint32_t scales) const;
  __device__ __forceinline__ void DequantizeTile(int tile) const;
  __device__ __forceinline__ void QueryFragment(uint32_t (&a)[4], int step, int lane) const;
  __device__ __forceinline__ void Score(float (&s)[kTokenTiles][4], const Element* keys) const;
  __device__ __forceinline__ void Seen(int row, int32_t& low, int32_t& high) const;
  __device__ __forceinline__ void Mask(float (&s)[kTokenTiles][4], int first) const;
  __device__ __forceinline__ void TileMaximum(float (&maximum)[2],
                                              const float (&s)[kTokenTiles][4]) const;
  __device__ __forceinline__ void Softmax(float (&s)[kTokenTiles][4]);
  __device__ __forceinline__ void Gather(const float (&s)[kTokenTiles][4], const Element* values);
  __device__ __forceinline__ void Compute(int tile);
  __device__ __forceinline__ void Clear();
  template <bool kLast>
  __device__ __forceinline__ void EndSegment(int segment);
  __device__ __forceinline__ void RowSums(float (&sums)[2]) const;
  __device__ __forceinline__ void WriteNothing();
  __device__ __forceinline__ void WritePart(int segment, const float (&lse)[2]);
  template <bool kLast>
  __device__ __forceinline__ void FoldSegment(const float (&lse)[2], bool first);
  template <bool kLast>
  __device__ __forceinline__ void FoldRow(int r, SegmentFold::Weights weights, float inverse,
                                          bool first);
  __device__ __forceinline__ void WriteRows();

  // Where a thread stands, for addresses of a tile and what it masks. Rows of 256 leave no
  // registers to hold from tile to tile what follows from it.
  __device__ __forceinline__ static int Thread() {
    return kDim > 128 ? gpu::anew(static_cast<int>(threadIdx.x)) : static_cast<int>(threadIdx.x);
  }
  __device__ __forceinline__ static int Lane() {
    return kDim > 128 ? gpu::anew(gpu::lane_id()) : gpu::lane_id();
  }

  // Column of the output where local tile `i` of this warp begins, in tiles of 8: of warp 0, and
  // how many further to the right it is.
  __device__ static constexpr int Column(int i) { return i / 2 * Shape::kWarpsN * 2 + i % 2; }
  __device__ __forceinline__ int FirstColumn() const { return kExchange ? warp_n_ * 2 : 0; }
  __device__ __forceinline__ bool HasPair(int pair) const {
    return Shape::kPairs % Shape::kWarpsN == 0 || pair * Shape::kWarpsN + warp_n_ < Shape::kPairs;
  }
  __device__ __forceinline__ int Token(int row) const { return (row * group_inverse_) >> 16; }
  // Row of [tokens][heads] that tile row `row` is in q and out.
  __device__ __forceinline__ int64_t HeadRow(int first, int row) const {
    const int token = Token(row);
    return static_cast<int64_t>(first + token) * params_.heads + head_ + (row - token * group_);
  }
  __device__ __forceinline__ Element* TileOf(int tile, int value) const {
    const int buffer = kQuantized ? 0 : tile % Shape::kStages * 2;
    unsigned char* base = shared_.kv;
    if (kQuantized) base += Shape::kStages * 2 * Shape::kTileElements;
    return reinterpret_cast<Element*>(base) + (buffer + value) * Shape::kTileElements;
  }

  const AttentionParams& params_;
  const AttentionWork& work_;
  const AttentionShared<Half, Shape>& shared_;

  const int32_t* blocks_;
  int64_t value_offset_;
  int32_t head_offset_;  // bytes from a block's start to this head's K of its token 0
  int32_t token_stride_;
  FastDivisor block_tokens_;
  int32_t scale_offset_;  // 8-bit only: from there to this head's scales of K of token 0
  int32_t scale_token_stride_;
  FastDivisor scale_group_;

  int32_t group_, group_inverse_, head_, rows_;
  int32_t begin_, end_;                    // KV tokens that some row sees
  int32_t warp_m_, warp_n_, quad_, pair_;  // lane / 4, lane % 4
  int32_t warp_low_, warp_high_;           // tokens [low, high] are seen by all rows of the warp

  uint32_t queries_[Shape::kQueriesInRegisters ? kSteps : 1][4];
  // Of the segment: the output, not yet divided by the sum; the largest score, scaled to base 2;
  // sums of weights, of this lane's columns only.
  float o_[kDimTiles][4];
  float base_[2];
  float sum_[2][Shape::kSums];
  float scale_log2_;
  uint32_t scales_[kScalesAhead ? kPieces : 1];  // bf16 of K low, of V high, for the next tile
};

}  // namespace sluice::cuda

#include "backend/cuda/kernels/attention_block-inl.cuh"
