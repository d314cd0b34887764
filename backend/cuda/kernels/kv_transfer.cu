#include "backend/cuda/kernels/kv_transfer.h"

#include "backend/cuda/kernels/half.cuh"
#include "backend/cuda/kernels/quantized.cuh"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kInFlight = 4;  // 16-byte pieces that a thread reads before it writes them

// What to copy of a block: halves (K, V) of tokens of heads of 16-byte pieces, each level with its
// stride on either side. A page without gaps is one half, token and head of many pieces.
struct CopyShape {
  FastDivisor pieces, heads, tokens;
  uint32_t total = 0;  // pieces of a block
};

__device__ __forceinline__ int64_t PieceOffset(uint32_t i, const CopyShape& shape,
                                               const KvView& view) {
  const uint32_t row = Divide(i, shape.pieces);
  const uint32_t token_row = Divide(row, shape.heads);
  const uint32_t half = Divide(token_row, shape.tokens);
  const int64_t piece = i - row * shape.pieces.divisor;
  const int64_t head = row - token_row * shape.heads.divisor;
  const int64_t token = token_row - half * shape.tokens.divisor;
  return half * view.value_offset + token * view.token_stride + head * view.head_stride +
         piece * 16;
}

// Bytes: each byte of the blocks read once and written once; one side crosses the host link, which
// bounds it. kInFlight * kThreads * 16 bytes per block are on their way at a time.
__global__ void __launch_bounds__(kThreads) KvCopyKernel(const __grid_constant__ KvTransferParams p,
                                                         const __grid_constant__ CopyShape shape) {
  const KvTransferPair pair = p.pairs[blockIdx.x];
  const auto* from =
      static_cast<const unsigned char*>(p.from.data) + pair.from * p.from.block_stride;
  auto* to = static_cast<unsigned char*>(p.to.data) + pair.to * p.to.block_stride;
  const uint32_t first = blockIdx.y * (kThreads * kInFlight) + threadIdx.x;
  uint4 piece[kInFlight];
  SLUICE_UNROLL
  for (uint32_t k = 0; k < kInFlight; ++k) {
    const uint32_t i = first + k * kThreads;
    if (i >= shape.total) continue;
    piece[k] = gpu::load_global_streaming(
        reinterpret_cast<const uint4*>(from + PieceOffset(i, shape, p.from)));
  }
  SLUICE_UNROLL
  for (uint32_t k = 0; k < kInFlight; ++k) {
    const uint32_t i = first + k * kThreads;
    if (i >= shape.total) continue;
    gpu::store_global_streaming(reinterpret_cast<uint4*>(to + PieceOffset(i, shape, p.to)),
                                piece[k]);
  }
}

// Row `row` of [K, V][token][head] of a block: its codes or halves, and its scales.
struct RowPlace {
  int64_t data, scales;
};
__device__ __forceinline__ RowPlace PlaceOfRow(uint32_t row, const CopyShape& shape, int32_t block,
                                               const KvView& view) {
  const uint32_t token_row = Divide(row, shape.heads);
  const uint32_t half = Divide(token_row, shape.tokens);
  const int64_t head = row - token_row * shape.heads.divisor;
  const int64_t token = token_row - half * shape.tokens.divisor;
  const int64_t base = block * view.block_stride + half * view.value_offset;
  return {
      base + token * view.token_stride + head * view.head_stride,
      base + view.scale_offset + token * view.scale_token_stride + head * view.scale_head_stride};
}

// One warp per row. Bytes: D * (2 + 1) + scales per row, the smaller side over the host link.
// FLOPs: about 10 per element.
template <class Half>
__global__ void __launch_bounds__(kThreads)
    KvQuantizeKernel(const __grid_constant__ KvTransferParams p,
                     const __grid_constant__ CopyShape shape) {
  const KvTransferPair pair = p.pairs[blockIdx.x];
  const uint32_t row = blockIdx.y * (kThreads / 32) + threadIdx.x / 32;
  if (row >= shape.total) return;
  const RowPlace from = PlaceOfRow(row, shape, pair.from, p.from);
  const RowPlace to = PlaceOfRow(row, shape, pair.to, p.to);
  const int dim = static_cast<int>(p.shape.head_dim);
  float numbers[8];
  SLUICE_UNROLL
  for (int j = 0; j < 2; ++j) {
    const int first = 128 * j + 4 * gpu::lane_id();
    uint2 words = make_uint2(0, 0);
    if (first < dim) {
      const auto* data = static_cast<const unsigned char*>(p.from.data) + from.data;
      words = gpu::load_global_streaming(reinterpret_cast<const uint2*>(data + first * 2));
    }
    const float2 low = Half::Unpack(words.x);
    const float2 high = Half::Unpack(words.y);
    numbers[4 * j] = low.x;
    numbers[4 * j + 1] = low.y;
    numbers[4 * j + 2] = high.x;
    numbers[4 * j + 3] = high.y;
  }
  auto* data = static_cast<unsigned char*>(p.to.data);
  const bool good = QuantizeRow(numbers, dim, static_cast<int>(p.shape.scale_group), p.to_type,
                                data + to.data, data + to.scales);
  if (!good && gpu::lane_id() == 0 && p.broken != nullptr) atomicOr(p.broken + blockIdx.x, 1);
}

// The inverse; the same bounds.
template <class Half>
__global__ void __launch_bounds__(kThreads)
    KvDequantizeKernel(const __grid_constant__ KvTransferParams p,
                       const __grid_constant__ CopyShape shape) {
  const KvTransferPair pair = p.pairs[blockIdx.x];
  const uint32_t row = blockIdx.y * (kThreads / 32) + threadIdx.x / 32;
  if (row >= shape.total) return;
  const RowPlace from = PlaceOfRow(row, shape, pair.from, p.from);
  const RowPlace to = PlaceOfRow(row, shape, pair.to, p.to);
  const int dim = static_cast<int>(p.shape.head_dim);
  const int group = static_cast<int>(p.shape.scale_group);
  const auto* codes = static_cast<const unsigned char*>(p.from.data) + from.data;
  const auto* scales = reinterpret_cast<const uint16_t*>(
      static_cast<const unsigned char*>(p.from.data) + from.scales);
  auto* out = static_cast<unsigned char*>(p.to.data) + to.data;
  SLUICE_UNROLL
  for (int j = 0; j < 2; ++j) {
    const int first = 128 * j + 4 * gpu::lane_id();
    if (first >= dim) break;
    const uint32_t word =
        gpu::load_global_streaming(reinterpret_cast<const uint32_t*>(codes + first));
    const uint32_t scale = gpu::load_global_streaming(scales + first / group);
    gpu::store_global_streaming(reinterpret_cast<uint2*>(out + first * 2),
                                Dequantize4<Half>(word, __uint_as_float(scale << 16), p.from_type));
  }
}

uint32_t U32(int64_t n) { return static_cast<uint32_t>(n); }

bool SameStrides(const KvView& a, const KvView& b) {
  return a.value_offset == b.value_offset && a.token_stride == b.token_stride &&
         a.head_stride == b.head_stride && a.scale_offset == b.scale_offset &&
         a.scale_token_stride == b.scale_token_stride && a.scale_head_stride == b.scale_head_stride;
}

// Whether the view's pages are those of KvPageShape, without gaps.
bool Dense(const KvView& view, const KvPageShape& page) {
  return SameStrides(view, MakeKvView(page, nullptr, 0, nullptr));
}

cudaError_t LaunchCopy(const KvTransferParams& params, cudaStream_t stream) {
  KvPageShape page = params.shape;
  page.type = params.from_type;
  CopyShape shape;
  if (Dense(params.from, page) && Dense(params.to, page)) {
    shape.total = U32(page.page_bytes() / 16);
    shape.pieces = MakeFastDivisor(shape.total);
    shape.heads = shape.tokens = MakeFastDivisor(1);
  } else if (page.type == KvType::kHalf) {
    const int64_t pieces = page.row_bytes() / 16;
    shape.total = U32(2 * page.block_tokens * page.kv_heads * pieces);
    shape.pieces = MakeFastDivisor(U32(pieces));
    shape.heads = MakeFastDivisor(U32(page.kv_heads));
    shape.tokens = MakeFastDivisor(U32(page.block_tokens));
  } else {
    return cudaErrorInvalidValue;
  }
  constexpr uint32_t kPiecesOfBlock = kThreads * kInFlight;
  const dim3 grid(U32(params.count), (shape.total + kPiecesOfBlock - 1) / kPiecesOfBlock);
  return gpu::Launch("kv_copy", &KvCopyKernel, grid, dim3(kThreads), 0, stream, params, shape);
}

}  // namespace

cudaError_t LaunchKvTransfer(const KvTransferParams& params, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  if (params.from_type == params.to_type) return LaunchCopy(params, stream);
  const bool quantize = params.from_type == KvType::kHalf;
  if ((!quantize && params.to_type != KvType::kHalf) || params.shape.head_dim > 256) {
    return cudaErrorInvalidValue;
  }
  CopyShape shape;
  shape.total = U32(2 * params.shape.block_tokens * params.shape.kv_heads);
  shape.heads = MakeFastDivisor(U32(params.shape.kv_heads));
  shape.tokens = MakeFastDivisor(U32(params.shape.block_tokens));
  constexpr uint32_t kRowsOfBlock = kThreads / 32;
  const dim3 grid(U32(params.count), (shape.total + kRowsOfBlock - 1) / kRowsOfBlock);
  return WithHalf(params.half, [&](auto tag) {
    using Half = decltype(tag);
    return gpu::Launch(quantize ? "kv_quantize" : "kv_dequantize",
                       quantize ? &KvQuantizeKernel<Half> : &KvDequantizeKernel<Half>, grid,
                       dim3(kThreads), 0, stream, params, shape);
  });
}

}  // namespace sluice::cuda
