#include "backend/cuda/kernels/attention_fold.cuh"
#include "backend/cuda/kernels/mla_attention.h"

namespace sluice::cuda {
namespace {

// 64 query rows; four warps along the rows times two. Of a tile of 32 KV rows the two warps that
// share query rows each score 16, exchange the weights through shared memory, and gather one half
// of the 512 output columns each.
constexpr int kRows = kMlaTileRows;
constexpr int kWarpsM = kRows / 16;
constexpr int kThreads = 32 * kWarpsM * 2;
constexpr int kTile = 32;
constexpr int kSegmentTiles = kAttentionSegment / kTile;
constexpr int kStages = 2;
constexpr int kColumns = kMlaLatent / 2;  // of the output, per warp
constexpr int kColumnTiles = kColumns / 8;
static_assert(kColumnTiles == 32, "one 16-byte piece of an output row per lane");
constexpr int kPieces = kMlaRow / 8;
using RowAt = Swizzle<kMlaRow>;
using WeightAt = Swizzle<kTile>;

template <class Half>
struct Shared {
  typename Half::Type* q;        // [kRows][576], swizzled; later the output
  typename Half::Type* kv;       // [kStages][kTile][576]
  typename Half::Type* weights;  // [kRows][kTile]
  float* maxima;                 // [2][kRows]: of either warp of a pair
  float* sums;                   // likewise
  SegmentFold* folds;            // [2][kThreads]: of a lane's two rows
  __host__ __device__ explicit Shared(gpu::SharedCarver& carver)
      : q(carver.Take<typename Half::Type>(kRows * kMlaRow)),
        kv(carver.Take<typename Half::Type>(kStages * kTile * kMlaRow)),
        weights(carver.Take<typename Half::Type>(kRows * kTile)),
        maxima(carver.Take<float>(2 * kRows)),
        sums(carver.Take<float>(2 * kRows)),
        folds(carver.Take<SegmentFold>(2 * kThreads)) {}
  static size_t Bytes() {
    gpu::SharedCarver carver(nullptr);
    const Shared shared(carver);
    static_cast<void>(shared);
    return carver.bytes();
  }
};

template <class Half>
class MlaBlock {
 public:
  using Element = typename Half::Type;

  __device__ __forceinline__ MlaBlock(const MlaAttentionParams& params, const AttentionWork& work,
                                      const Shared<Half>& shared, int head_tile)
      : params_(params), work_(work), shared_(shared) {
    group_ = min(params.heads, kRows);
    head_ = head_tile * group_;
    rows_ = work.count * group_;
    begin_ = work.kv_begin;
    end_ = min(work.kv_end, work.position + work.count);
    const int warp = static_cast<int>(threadIdx.x) / 32;
    warp_m_ = warp % kWarpsM;
    warp_n_ = warp / kWarpsM;
    quad_ = gpu::lane_id() / 4;
    pair_ = gpu::lane_id() % 4;
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      high_[r] = min(end_ - 1, work.position + Row(r) / group_);
    }
    scale_log2_ = params.scale * 1.44269504088896341F;
    Clear();
  }

  __device__ __forceinline__ void Run() {
    if (end_ <= begin_) {
      WriteNothing();
      return;
    }
    const int first = begin_ / kTile;
    const int last = (end_ - 1) / kTile;
    LoadQueries();
    LoadTile(first);
    gpu::cp_async_commit();
    for (int tile = first; tile <= last; ++tile) {
      if (tile < last) LoadTile(tile + 1);
      gpu::cp_async_commit();
      gpu::cp_async_wait<1>();
      __syncthreads();  // everybody's part of the tile is there
      Compute(tile);
      __syncthreads();  // nobody reads the tile any more
      if ((tile + 1) % kSegmentTiles == 0 && tile < last) EndSegment<false>(tile / kSegmentTiles);
    }
    EndSegment<true>(last / kSegmentTiles);
  }

 private:
  // This lane's row r (0 or 1) in the tile.
  __device__ __forceinline__ int Row(int r) const { return warp_m_ * 16 + quad_ + 8 * r; }
  __device__ __forceinline__ int64_t HeadRow(int first, int row) const {
    return static_cast<int64_t>(first + row / group_) * params_.heads + head_ + row % group_;
  }
  __device__ __forceinline__ const Element* TileOf(int tile) const {
    return shared_.kv + tile % kStages * kTile * kMlaRow;
  }

  // Begins a segment.
  __device__ __forceinline__ void Clear() {
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      base_[r] = -INFINITY;
      sum_[r] = 0;
    }
    SLUICE_UNROLL
    for (int i = 0; i < kColumnTiles; ++i) o_[i][0] = o_[i][1] = o_[i][2] = o_[i][3] = 0;
  }

  __device__ __forceinline__ void LoadQueries() {
    SLUICE_UNROLL_4
    for (int i = 0; i < kRows * kPieces / kThreads; ++i) {
      const int c = static_cast<int>(threadIdx.x) + i * kThreads;
      const int row = c / kPieces;
      const bool valid = row < rows_;
      const Element* source = static_cast<const Element*>(params_.q) +
                              HeadRow(work_.query, valid ? row : 0) * kMlaRow + c % kPieces * 8;
      gpu::cp_async16(shared_.q + RowAt::At(row, c % kPieces), source, valid);
    }
  }

  __device__ __forceinline__ void LoadTile(int tile) {
    const KvView& view = params_.views[0];
    Element* to = shared_.kv + tile % kStages * kTile * kMlaRow;
    SLUICE_UNROLL_4
    for (int i = 0; i < kTile * kPieces / kThreads; ++i) {
      const int c = static_cast<int>(threadIdx.x) + i * kThreads;
      const int row = c / kPieces;
      const int token = tile * kTile + row;
      const bool valid = token >= begin_ && token < end_;
      const auto* source = static_cast<const unsigned char*>(view.data);
      if (valid) {
        const uint32_t entry = Divide(static_cast<uint32_t>(token), view.block_tokens);
        const int32_t block = gpu::load_global_nc(view.blocks + work_.blocks + entry);
        const int64_t within = token - static_cast<int32_t>(entry * view.block_tokens.divisor);
        source = BlockAt(params_.views, block) + within * view.token_stride + c % kPieces * 16;
      }
      gpu::cp_async16(to + RowAt::At(row, c % kPieces), source, valid);
    }
  }

  // The pair of warps that share query rows.
  __device__ __forceinline__ void MeetPartner() const { gpu::barrier_sync(1 + warp_m_, 64); }

  __device__ __forceinline__ void Score(float (&s)[2][4], const Element* rows) const {
    const int lane = gpu::lane_id();
    SLUICE_UNROLL
    for (int n = 0; n < 2; ++n) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0;
    SLUICE_UNROLL_4
    for (int step = 0; step < kMlaRow / 16; ++step) {
      uint32_t a[4];
      uint32_t b[4];
      gpu::ldmatrix_x4<false>(
          a, shared_.q + RowAt::At(warp_m_ * 16 + (lane & 15), step * 2 + lane / 16));
      gpu::ldmatrix_x4<false>(b, rows + RowAt::At(warp_n_ * 16 + (lane & 7) + lane / 16 * 8,
                                                  step * 2 + ((lane >> 3) & 1)));
      Half::Mma(s[0], a, b[0], b[1]);
      Half::Mma(s[1], a, b[2], b[3]);
    }
  }

  // Weights of the tile relative to the maximum that both warps of a pair agree on; into shared
  // memory for both.
  __device__ __forceinline__ void Weigh(float (&s)[2][4], int first) {
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      float maximum = -INFINITY;
      SLUICE_UNROLL
      for (int n = 0; n < 2; ++n) {
        SLUICE_UNROLL
        for (int i = 2 * r; i < 2 * r + 2; ++i) {
          const int token = first + n * 8 + pair_ * 2 + (i & 1);
          if (token < begin_ || token > high_[r]) s[n][i] = -INFINITY;
          maximum = fmaxf(maximum, s[n][i]);
        }
      }
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
      if (pair_ == 0) shared_.maxima[warp_n_ * kRows + Row(r)] = maximum;
    }
    MeetPartner();  // both maxima are there
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      const float maximum = fmaxf(shared_.maxima[Row(r)], shared_.maxima[kRows + Row(r)]);
      const float base = fmaxf(base_[r], __fmul_rn(maximum, scale_log2_));
      const float shift = base == -INFINITY ? 0.0F : base;
      // Exactly one where the maximum stays: what a row does not see must not show.
      const float correction = gpu::fast_exp2(__fadd_rn(base_[r], -shift));
      base_[r] = base;
      sum_[r] = __fmul_rn(sum_[r], correction);
      SLUICE_UNROLL
      for (int n = 0; n < 2; ++n) {
        const float x = gpu::fast_exp2(__fmaf_rn(s[n][2 * r], scale_log2_, -shift));
        const float y = gpu::fast_exp2(__fmaf_rn(s[n][2 * r + 1], scale_log2_, -shift));
        sum_[r] = __fadd_rn(sum_[r], __fadd_rn(x, y));
        gpu::store_shared(reinterpret_cast<uint32_t*>(
                              shared_.weights + WeightAt::At(Row(r), warp_n_ * 2 + n) + pair_ * 2),
                          Half::Pack(x, y));
      }
      SLUICE_UNROLL
      for (int i = 0; i < kColumnTiles; ++i) {
        o_[i][2 * r] *= correction;
        o_[i][2 * r + 1] *= correction;
      }
    }
    MeetPartner();  // both halves of the weights are there
  }

  __device__ __forceinline__ void Gather(const Element* rows) {
    const int lane = gpu::lane_id();
    SLUICE_UNROLL
    for (int step = 0; step < kTile / 16; ++step) {
      uint32_t p[4];
      gpu::ldmatrix_x4<false>(
          p, shared_.weights + WeightAt::At(warp_m_ * 16 + (lane & 15), step * 2 + lane / 16));
      SLUICE_UNROLL
      for (int i = 0; i < kColumnTiles; i += 2) {
        uint32_t b[4];
        gpu::ldmatrix_x4<true>(
            b, rows + RowAt::At(step * 16 + (lane & 15), warp_n_ * kColumnTiles + i + lane / 16));
        Half::Mma(o_[i], p, b[0], b[1]);
        Half::Mma(o_[i + 1], p, b[2], b[3]);
      }
    }
  }

  __device__ __forceinline__ void Compute(int tile) {
    float s[2][4];
    Score(s, TileOf(tile));
    Weigh(s, tile * kTile + warp_n_ * 16);
    Gather(TileOf(tile));
  }

  // Sums of the quad, then of the pair of warps; and the result of the segment to where it belongs.
  template <bool kLast>
  __device__ __forceinline__ void EndSegment(int segment) {
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      sum_[r] += __shfl_xor_sync(0xffffffffu, sum_[r], 1);
      sum_[r] += __shfl_xor_sync(0xffffffffu, sum_[r], 2);
      if (pair_ == 0) shared_.sums[warp_n_ * kRows + Row(r)] = sum_[r];
    }
    MeetPartner();  // both sums are there
    const int first = begin_ / kAttentionSegment;
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int row = Row(r);
      const float sum = shared_.sums[row] + shared_.sums[kRows + row];
      const float inverse = sum > 0 ? 1.0F / sum : 0.0F;
      const float lse = SegmentLse(base_[r], sum);
      SLUICE_UNROLL
      for (int i = 0; i < kColumnTiles; ++i) {
        o_[i][2 * r] = Normalize(o_[i][2 * r], inverse);
        o_[i][2 * r + 1] = Normalize(o_[i][2 * r + 1], inverse);
      }
      if (row >= rows_) continue;
      if (work_.parts != 0) {
        WritePart(r, segment - first, lse);
      } else if (!kLast || segment != first) {
        FoldSegment<kLast>(r, lse, segment == first);
      }
    }
    if constexpr (kLast) {
      if (work_.parts == 0) WriteOutput();
    } else {
      Clear();
    }
  }

  // Row r of this lane, into the partial buffers.
  __device__ __forceinline__ void WritePart(int r, int segment, float lse) {
    const int64_t at = HeadRow(work_.partial + segment * work_.count, Row(r));
    float* to = params_.partial + at * kMlaLatent + warp_n_ * kColumns + pair_ * 2;
    SLUICE_UNROLL
    for (int i = 0; i < kColumnTiles; ++i) {
      gpu::store_global(reinterpret_cast<float2*>(to + i * 8),
                        make_float2(o_[i][2 * r], o_[i][2 * r + 1]));
    }
    if (pair_ == 0 && warp_n_ == 0) gpu::store_global(params_.lse + at, lse);
  }

  // Adds a segment of row r to those before it; after the last, o_ is the result of all. A thread
  // finds in scratch rows and in shared memory what it has written itself.
  template <bool kLast>
  __device__ __forceinline__ void FoldSegment(int r, float lse, bool first) {
    SegmentFold& place = shared_.folds[r * kThreads + static_cast<int>(threadIdx.x)];
    SegmentFold fold;
    if (!first) fold = place;
    const SegmentFold::Weights weights = fold.Add(lse);
    place = fold;
    const float inverse = fold.Inverse();
    float* scratch = params_.partial + HeadRow(work_.partial, Row(r)) * kMlaLatent +
                     warp_n_ * kColumns + pair_ * 2;
    constexpr int kCount = 8;
    SLUICE_UNROLL
    for (int i = 0; i < kColumnTiles; i += kCount) {
      float2 part[kCount];
      SLUICE_UNROLL
      for (int j = 0; j < kCount; ++j) {
        part[j] = make_float2(o_[i + j][2 * r], o_[i + j][2 * r + 1]);
      }
      const auto at = [&](int j) { return reinterpret_cast<float2*>(scratch + (i + j) * 8); };
      FoldInScratch<kLast>(part, at, weights, inverse, first);
      SLUICE_UNROLL
      for (int j = 0; j < kCount; ++j) {
        o_[i + j][2 * r] = part[j].x;
        o_[i + j][2 * r + 1] = part[j].y;
      }
    }
  }

  // The item has no queries or no KV.
  __device__ __forceinline__ void WriteNothing() {
    for (int i = static_cast<int>(threadIdx.x); i < rows_ * kMlaLatent / 4; i += kThreads) {
      const int row = i / (kMlaLatent / 4);
      const int column = i % (kMlaLatent / 4) * 4;
      if (work_.parts != 0) {
        const int64_t at = HeadRow(work_.partial, row);
        gpu::store_global(reinterpret_cast<float4*>(params_.partial + at * kMlaLatent + column),
                          make_float4(0, 0, 0, 0));
        if (column == 0) gpu::store_global(params_.lse + at, -INFINITY);
      } else {
        gpu::store_global(reinterpret_cast<uint2*>(static_cast<Element*>(params_.out) +
                                                   HeadRow(work_.query, row) * kMlaLatent + column),
                          make_uint2(0, 0));
      }
    }
  }

  // The warp's rows and columns, through its part of q's memory, so that the stores are wide.
  __device__ __forceinline__ void WriteOutput() {
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      SLUICE_UNROLL
      for (int i = 0; i < kColumnTiles; ++i) {
        auto* place = shared_.q + RowAt::At(Row(r), warp_n_ * kColumnTiles + i) + pair_ * 2;
        gpu::store_shared(reinterpret_cast<uint32_t*>(place),
                          Half::Pack(o_[i][2 * r], o_[i][2 * r + 1]));
      }
    }
    __syncwarp();
    SLUICE_UNROLL_4
    for (int i = 0; i < 16; ++i) {
      const int row = warp_m_ * 16 + i;
      if (row >= rows_) break;
      const int chunk = warp_n_ * kColumnTiles + gpu::lane_id();
      gpu::stg128(
          static_cast<Element*>(params_.out) + HeadRow(work_.query, row) * kMlaLatent + chunk * 8,
          gpu::lds128(shared_.q + RowAt::At(row, chunk)));
    }
  }

  const MlaAttentionParams& params_;
  const AttentionWork& work_;
  const Shared<Half>& shared_;
  int32_t group_, head_, rows_, begin_, end_;
  int32_t warp_m_, warp_n_, quad_, pair_;
  int32_t high_[2];
  // Of the segment, as in attention_block.cuh.
  float o_[kColumnTiles][4];
  float base_[2];
  float sum_[2];  // of this lane's columns
  float scale_log2_;
};

// One block: 64 (token, head) rows against a range of the latent cache.
// Bytes: 576 * 2 per KV token. FLOPs: 2 * 64 * (576 + 512) per KV token: 121 per byte and tile of
// heads, so that 128 heads are near the balance of the tensor cores and memory; fewer are bound by
// memory bandwidth. A block that folds several segments reads and writes 64 * 512 * 4 bytes of
// scratch per segment, which L2 holds: less than half of what the segment's KV is.
template <class Half>
__global__ void __launch_bounds__(kThreads)
    MlaAttentionKernel(const __grid_constant__ MlaAttentionParams params) {
  SLUICE_DYNAMIC_SMEM(raw);
  gpu::SharedCarver carver(raw);
  const Shared<Half> shared(carver);
  const AttentionWork work = params.works[blockIdx.x];
  MlaBlock<Half> block(params, work, shared, static_cast<int>(blockIdx.y));
  block.Run();
}

}  // namespace

cudaError_t LaunchMlaAttention(const MlaAttentionParams& params, cudaStream_t stream) {
  const int heads = params.heads;
  if (heads <= 0 || (heads <= kRows ? kRows % heads : heads % kRows) != 0) {
    return cudaErrorInvalidValue;
  }
  if (params.work_count == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(params.work_count),
                  static_cast<unsigned>(heads <= kRows ? 1 : heads / kRows));
  return WithHalf(params.half, [&](auto tag) {
    using Half = decltype(tag);
    const size_t shared_bytes = Shared<Half>::Bytes();
    const cudaError_t allowed = gpu::AllowSharedBytes(&MlaAttentionKernel<Half>, shared_bytes);
    if (allowed != cudaSuccess) return allowed;
    return gpu::Launch("mla_attention", &MlaAttentionKernel<Half>, grid, dim3(kThreads),
                       shared_bytes, stream, params);
  });
}

}  // namespace sluice::cuda
