#include "backend/cuda/kernels/rope_kv_write.h"

#include "backend/cuda/kernels/half.cuh"
#include "backend/cuda/kernels/quantized.cuh"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kMostDim = 256;
// Pairs of neighbouring elements that a lane holds of each half of a row.
constexpr int kPairs = kMostDim / 2 / 2 / 32;

enum class Part { kQuery, kKey, kValue };

// One head of one token, in the registers of a warp: with half = D / 2, lane i has elements 2 i,
// 2 i + 1 (low) and half + 2 i, half + 2 i + 1 (high) of each run of 64 pairs.
struct HeadRow {
  float2 low[kPairs], high[kPairs];
};

template <class Half>
__device__ __forceinline__ float2 ReadPair(const void* row, int element) {
  const auto* p = static_cast<const typename Half::Type*>(row) + element;
  return Half::Unpack(gpu::load_global_nc(reinterpret_cast<const uint32_t*>(p)));
}

template <class Half>
__device__ __forceinline__ HeadRow ReadHead(const RopeKvWriteParams& p, int64_t row,
                                            int64_t bias_row) {
  const int half = p.head_dim / 2;
  HeadRow x;
  SLUICE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    const int pair = 2 * (gpu::lane_id() + 32 * i);
    x.low[i] = x.high[i] = make_float2(0, 0);
    if (pair >= half) continue;
    const auto* from = static_cast<const typename Half::Type*>(p.qkv) + row * p.head_dim;
    x.low[i] = ReadPair<Half>(from, pair);
    x.high[i] = ReadPair<Half>(from, half + pair);
    if (p.bias == nullptr) continue;
    const auto* bias = static_cast<const typename Half::Type*>(p.bias) + bias_row * p.head_dim;
    const float2 low = ReadPair<Half>(bias, pair);
    const float2 high = ReadPair<Half>(bias, half + pair);
    x.low[i] = make_float2(x.low[i].x + low.x, x.low[i].y + low.y);
    x.high[i] = make_float2(x.high[i].x + high.x, x.high[i].y + high.y);
  }
  return x;
}

template <class Half>
__device__ __forceinline__ void Normalize(HeadRow& x, const void* weight, int dim, float eps) {
  float sum = 0;
  SLUICE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    sum += x.low[i].x * x.low[i].x + x.low[i].y * x.low[i].y;
    sum += x.high[i].x * x.high[i].x + x.high[i].y * x.high[i].y;
  }
  const float scale = rsqrtf(WarpSum(sum) / static_cast<float>(dim) + eps);
  SLUICE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    const int pair = 2 * (gpu::lane_id() + 32 * i);
    if (pair >= dim / 2) continue;
    const float2 low = ReadPair<Half>(weight, pair);
    const float2 high = ReadPair<Half>(weight, dim / 2 + pair);
    x.low[i] = make_float2(x.low[i].x * scale * low.x, x.low[i].y * scale * low.y);
    x.high[i] = make_float2(x.high[i].x * scale * high.x, x.high[i].y * scale * high.y);
  }
}

__device__ __forceinline__ void Rotate(HeadRow& x, const float2* rotation, int half) {
  SLUICE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    const int pair = 2 * (gpu::lane_id() + 32 * i);
    if (pair >= half) continue;
    const float4 turn = gpu::load_global_nc(reinterpret_cast<const float4*>(rotation + pair));
    const float2 low = x.low[i];
    const float2 high = x.high[i];
    x.low[i] = make_float2(low.x * turn.x - high.x * turn.y, low.y * turn.z - high.y * turn.w);
    x.high[i] = make_float2(high.x * turn.x + low.x * turn.y, high.y * turn.z + low.y * turn.w);
  }
}

template <class Half>
__device__ __forceinline__ void WriteHalves(const HeadRow& x, int half, void* row) {
  auto* to = static_cast<typename Half::Type*>(row);
  SLUICE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    const int pair = 2 * (gpu::lane_id() + 32 * i);
    if (pair >= half) continue;
    gpu::store_global(reinterpret_cast<uint32_t*>(to + pair), Half::Pack(x.low[i].x, x.low[i].y));
    gpu::store_global(reinterpret_cast<uint32_t*>(to + half + pair),
                      Half::Pack(x.high[i].x, x.high[i].y));
  }
}

// Through `row` in shared memory, which belongs to the warp: codes are grouped by neighbours, while
// lanes hold pairs half a row apart. Numbers are rounded to halves first, so that the bytes are
// those of a 16-bit row encoded later.
template <class Half>
__device__ __forceinline__ void WriteCodes(const HeadRow& x, const RopeKvWriteParams& p, uint2* row,
                                           unsigned char* codes, unsigned char* scales) {
  const int half = p.head_dim / 2;
  SLUICE_UNROLL
  for (int i = 0; i < kPairs; ++i) {
    const int pair = 2 * (gpu::lane_id() + 32 * i);
    if (pair >= half) continue;
    auto* word = reinterpret_cast<uint32_t*>(row);
    gpu::store_shared(word + pair / 2, Half::Pack(x.low[i].x, x.low[i].y));
    gpu::store_shared(word + (half + pair) / 2, Half::Pack(x.high[i].x, x.high[i].y));
  }
  __syncwarp();
  float numbers[8];
  SLUICE_UNROLL
  for (int j = 0; j < 2; ++j) {
    const int four = j * 32 + gpu::lane_id();
    const uint2 words = 4 * four < p.head_dim ? gpu::load_shared(row + four) : make_uint2(0, 0);
    const float2 low = Half::Unpack(words.x);
    const float2 high = Half::Unpack(words.y);
    numbers[4 * j] = low.x;
    numbers[4 * j + 1] = low.y;
    numbers[4 * j + 2] = high.x;
    numbers[4 * j + 3] = high.y;
  }
  QuantizeRow(numbers, p.head_dim, static_cast<int>(p.pool.scale_group.divisor), p.kv, codes,
              scales);
}

// One warp per (token, head). Bytes: (Hq + 2 Hkv) * D * 2 read and as many written per token (half
// for 8-bit K and V), and D / 2 * 8 of the rotation table, which all heads share. Bound by memory
// bandwidth.
template <class Half, bool kQuantized>
__global__ void __launch_bounds__(32 * kWarps)
    RopeKvWriteKernel(const __grid_constant__ RopeKvWriteParams p) {
  SLUICE_SHARED(uint2[kQuantized ? kWarps * kMostDim / 4 : 1], exchange);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int rows = p.heads + 2 * p.kv_heads;
  const int head = static_cast<int>(blockIdx.y) * kWarps + warp;
  if (head >= rows) return;
  const int64_t token = blockIdx.x;
  const Part part = head < p.heads                ? Part::kQuery
                    : head < p.heads + p.kv_heads ? Part::kKey
                                                  : Part::kValue;
  const int32_t slot = part == Part::kQuery ? 0 : p.slots[token];
  if (slot < 0) return;
  const int half = p.head_dim / 2;
  HeadRow x = ReadHead<Half>(p, token * rows + head, head);
  if (part != Part::kValue) {
    const void* norm = part == Part::kQuery ? p.q_norm : p.k_norm;
    if (norm != nullptr) Normalize<Half>(x, norm, p.head_dim, p.norm_eps);
    Rotate(x, p.rotation + static_cast<int64_t>(p.positions[token]) * half, half);
  }
  if (part == Part::kQuery) {
    auto* q = static_cast<typename Half::Type*>(p.q);
    WriteHalves<Half>(x, half, q + (token * p.heads + head) * p.head_dim);
    return;
  }
  const KvView& pool = p.pool;
  const int kv_head = head - p.heads - (part == Part::kValue ? p.kv_heads : 0);
  const uint32_t block = Divide(static_cast<uint32_t>(slot), pool.block_tokens);
  const int64_t within = static_cast<uint32_t>(slot) - block * pool.block_tokens.divisor;
  auto* base = static_cast<unsigned char*>(pool.data) + block * pool.block_stride +
               (part == Part::kValue ? pool.value_offset : 0);
  unsigned char* row =
      base + within * pool.token_stride + static_cast<int64_t>(kv_head) * pool.head_stride;
  if constexpr (kQuantized) {
    WriteCodes<Half>(x, p, exchange + warp * (kMostDim / 4), row,
                     base + pool.scale_offset + within * pool.scale_token_stride +
                         static_cast<int64_t>(kv_head) * pool.scale_head_stride);
  } else {
    WriteHalves<Half>(x, half, row);
  }
}

bool GroupFits(const FastDivisor& group) {
  const uint32_t n = group.divisor;
  return n >= 16 && n <= 256 && (n & (n - 1)) == 0;
}

}  // namespace

cudaError_t LaunchRopeKvWrite(const RopeKvWriteParams& params, cudaStream_t stream) {
  const bool quantized = params.kv != KvType::kHalf;
  if (params.head_dim % 16 != 0 || params.head_dim <= 0 || params.head_dim > kMostDim ||
      (quantized && !GroupFits(params.pool.scale_group))) {
    return cudaErrorInvalidValue;
  }
  if (params.tokens == 0) return cudaSuccess;
  const int rows = params.heads + 2 * params.kv_heads;
  const dim3 grid(static_cast<unsigned>(params.tokens),
                  static_cast<unsigned>((rows + kWarps - 1) / kWarps));
  return WithHalf(params.half, [&](auto tag) {
    using Half = decltype(tag);
    return gpu::Launch("rope_kv_write",
                       quantized ? &RopeKvWriteKernel<Half, true> : &RopeKvWriteKernel<Half, false>,
                       grid, dim3(32 * kWarps), 0, stream, params);
  });
}

}  // namespace sluice::cuda
