// attention_block.cuh: one block's work on one item and one kv head, for decode and prefill tiles
// alike. For kernel sources only.
//
// kWarpsM warps times 16 query rows, kWarpsN warps that share the tokens of a KV tile. KV tiles
// come by cp.async into kStages buffers, one tile ahead of the arithmetic. S = Q K^T and P V run on
// tensor cores; a warp keeps S, the running maximum and sum and its part of the output in registers
// (Dao et al. 2022; Milakov & Gimelshein 2018). Where several warps share the tokens, their parts
// are put together through shared memory at the end.
//
// 8-bit KV is copied as it is; each thread turns the bytes it has copied itself into halves.
#pragma once

#include <math.h>

#include "backend/cuda/kernels/attention.h"
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
  static constexpr int kTile = kHeadDim <= 128 ? 64 : 32;  // tokens
  static constexpr int kWarpTokens = kTile / kWarpsN;
  static constexpr int kStages = 2;
  static constexpr bool kQueriesInRegisters = kHeadDim <= 128;
  // Elements of one buffer of K or V.
  static constexpr int kTileElements = kTile * kHeadDim;
  // Floats from row to row where warps exchange their outputs: 8 more than a row, so that the rows
  // of a fragment start in different banks.
  static constexpr int kExchangeStride = kHeadDim + 8;
  static constexpr int kKvBytes = kStages * 2 * kTileElements * 2;
  static_assert(kWarpsN == 1 || kWarpsN * 16 * kExchangeStride * 4 <= kKvBytes);
};

template <class Half, class Shape>
struct AttentionShared {
  typename Half::Type* q;  // [kRows][kHeadDim], swizzled; later the output
  unsigned char* kv;       // 16-bit: [kStages][K, V] tiles; 8-bit: codes of the same, then [K, V]
  float* stats;            // [kWarpsN][16][maximum, sum]
  __host__ __device__ explicit AttentionShared(gpu::SharedCarver& carver)
      : q(carver.Take<typename Half::Type>(Shape::kRows * Shape::kHeadDim)),
        kv(carver.Take<unsigned char>(Shape::kKvBytes)),
        stats(carver.Take<float>(Shape::kWarpsN > 1 ? Shape::kWarpsN * 16 * 2 : 0)) {}
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

  // Attends, and writes the item's output or partial result.
  __device__ __forceinline__ void Run();

 private:
  using Element = typename Half::Type;
  static constexpr int kDim = Shape::kHeadDim;
  static constexpr int kThreads = Shape::kThreads;
  static constexpr int kTile = Shape::kTile;
  static constexpr int kTokenTiles = Shape::kWarpTokens / 8;  // of a warp: columns of S
  static constexpr int kDimTiles = kDim / 8;                  // columns of the output
  static constexpr int kSteps = kDim / 16;                    // of Q K^T
  // 16-byte pieces of a row as it lies in the pool, of a tile, and of a tile per thread.
  static constexpr int kRowPieces = kDim / (kQuantized ? 16 : 8);
  static constexpr int kTilePieces = kTile * kRowPieces;
  static constexpr int kPieces = (kTilePieces + kThreads - 1) / kThreads;
  // Whether scales are read one tile ahead; rows of 256 leave no registers for that.
  static constexpr bool kScalesAhead = kQuantized && kDim <= 128;
  using At = Swizzle<kDim>;

  // Byte of the block that holds `token`, counted from block 0, and the token's place in it.
  struct Place {
    int64_t block;
    int32_t within;
  };
  __device__ __forceinline__ Place PlaceOf(int token) const;
  __device__ __forceinline__ void LoadQueries();
  __device__ __forceinline__ void LoadTile(int tile);
  __device__ __forceinline__ uint32_t ScalesOf(int tile, int piece) const;
  __device__ __forceinline__ void LoadScales(int tile);
  __device__ __forceinline__ void DequantizePiece(int tile, int piece, uint32_t scales) const;
  __device__ __forceinline__ void DequantizeTile(int tile) const;
  __device__ __forceinline__ void QueryFragment(uint32_t (&a)[4], int step) const;
  __device__ __forceinline__ void Score(float (&s)[kTokenTiles][4], const Element* keys) const;
  __device__ __forceinline__ void Mask(float (&s)[kTokenTiles][4], int first) const;
  __device__ __forceinline__ void Softmax(float (&s)[kTokenTiles][4]);
  __device__ __forceinline__ void Gather(const float (&s)[kTokenTiles][4], const Element* values);
  __device__ __forceinline__ void Compute(int tile);
  __device__ __forceinline__ void AddLanes();
  __device__ __forceinline__ void WriteNothing();
  __device__ __forceinline__ void WriteRows();
  __device__ __forceinline__ void WriteMerged();
  __device__ __forceinline__ void WriteLse(int row, float maximum, float sum);

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

  const unsigned char* base_;  // this head's K of token 0 of block 0
  const int32_t* blocks_;
  int64_t block_stride_, value_offset_;
  int32_t token_stride_;
  FastDivisor block_tokens_;
  const unsigned char* scale_base_;  // 8-bit only: this head's scales of K, as base_
  int32_t scale_token_stride_;
  FastDivisor scale_group_;

  int32_t group_, group_inverse_, head_, rows_;
  int32_t begin_, end_;                    // KV tokens that some row sees
  int32_t warp_m_, warp_n_, quad_, pair_;  // lane / 4, lane % 4
  int32_t low_[2], high_[2];      // tokens [low, high] are seen by rows quad_ and quad_ + 8
  int32_t warp_low_, warp_high_;  // tokens [low, high] are seen by all rows of the warp

  uint32_t queries_[Shape::kQueriesInRegisters ? kSteps : 1][4];
  float o_[kDimTiles][4];  // not yet divided by the sum
  float maximum_[2];       // of the scores, before scaling
  float sum_[2];           // this lane's columns only
  float scale_log2_;
  uint32_t scales_[kScalesAhead ? kPieces : 1];  // bf16 of K low, of V high, for the next tile
};

}  // namespace sluice::cuda

#include "backend/cuda/kernels/attention_block-inl.cuh"
