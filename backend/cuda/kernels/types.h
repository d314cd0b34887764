// Types that the kernels' parameters share. Plain C++: read by g++ and by nvcc.
//
// Words used for shapes: T tokens of a step (all sequences side by side), Hq query heads, Hkv
// key/value heads, D head_dim. "Half" is either of the two 16-bit float types.
#pragma once

#include <cstdint>

namespace sluice::cuda {

// Activations, queries, weights and 16-bit KV are one of these; sums are always float.
enum class HalfType : uint8_t { kBf16, kF16 };

// What K and V are stored as. kHalf: the activations' own type.
enum class KvType : uint8_t { kHalf, kFp8E4m3, kInt8 };

constexpr int64_t KvElementBytes(KvType type) { return type == KvType::kHalf ? 2 : 1; }

// Division of n in [0, 2^31) by a divisor in [1, 2^31): one multiply-high and one shift. Granlund &
// Montgomery, "Division by invariant integers using multiplication", 1994.
struct FastDivisor {
  uint32_t divisor = 0;
  uint32_t multiplier = 0;
  uint32_t shift = 0;
};

constexpr FastDivisor MakeFastDivisor(uint32_t divisor) {
  uint32_t log2 = 0;
  while ((uint64_t{1} << log2) < divisor) ++log2;
  const uint64_t power = uint64_t{1} << (31 + log2);
  if (divisor == 1) return {1, 0, 0};  // Divide() knows
  return {divisor, static_cast<uint32_t>((power + divisor - 1) / divisor), log2 - 1};
}

// Where K and V of one layer lie. Row (block b, K or V, token t, head h) starts at byte
//   data + b * block_stride + (V: value_offset) + t * token_stride + h * head_stride
// and holds D elements side by side. One view fits the device pool, another the host pool, which
// kernels read in place.
//
// 8-bit types have a bf16 scale for every `scale_group` neighbouring elements (the last group of a
// row may be shorter). Group g of a row is at byte
//   data + b * block_stride + (V: value_offset) + scale_offset
//        + t * scale_token_stride + h * scale_head_stride + 2 g.
struct KvView {
  void* data = nullptr;             // device, or mapped host memory; 16-byte aligned
  const int32_t* blocks = nullptr;  // device: block tables of all sequences, one after another
  int64_t block_stride = 0;         // bytes, multiples of 16 down to head_stride
  int64_t value_offset = 0;
  int32_t token_stride = 0;
  int32_t head_stride = 0;
  FastDivisor block_tokens;  // 16 to 256

  int64_t scale_offset = 0;  // 8-bit types only
  int32_t scale_token_stride = 0;
  int32_t scale_head_stride = 0;
  FastDivisor scale_group;  // a power of two in [16, 256]
};

// Sizes of one block of one layer: [K, V]{ codes [token][kv_head][dim], scales
// [token][kv_head][group] }, the latter only for 8-bit types. It is what backend/kv/kv_codec.h
// writes for a slice, so a block has the same bytes on both sides of the link.
struct KvPageShape {
  int64_t kv_heads = 0;
  int64_t head_dim = 0;      // multiple of 16
  int64_t block_tokens = 0;  // multiple of 16
  KvType type = KvType::kHalf;
  int64_t scale_group = 64;  // 8-bit types only; a power of two in [16, 256]

  constexpr int64_t row_bytes() const { return head_dim * KvElementBytes(type); }
  constexpr int64_t code_bytes() const { return block_tokens * kv_heads * row_bytes(); }  // K or V
  constexpr int64_t scale_groups() const {
    return type == KvType::kHalf ? 0 : (head_dim + scale_group - 1) / scale_group;
  }
  constexpr int64_t half_bytes() const {
    return code_bytes() + block_tokens * kv_heads * scale_groups() * 2;
  }
  constexpr int64_t page_bytes() const { return 2 * half_bytes(); }
};

// The view of a pool whose block b has its page of the layer at data + b * block_stride: the device
// pool has block_stride = page_bytes(), the host pool layers * page_bytes() and data at the layer.
constexpr KvView MakeKvView(const KvPageShape& page, void* data, int64_t block_stride,
                            const int32_t* blocks) {
  KvView view;
  view.data = data;
  view.blocks = blocks;
  view.block_stride = block_stride;
  view.value_offset = page.half_bytes();
  view.head_stride = static_cast<int32_t>(page.row_bytes());
  view.token_stride = static_cast<int32_t>(page.row_bytes() * page.kv_heads);
  view.block_tokens = MakeFastDivisor(static_cast<uint32_t>(page.block_tokens));
  view.scale_offset = page.code_bytes();
  view.scale_head_stride = static_cast<int32_t>(2 * page.scale_groups());
  view.scale_token_stride = static_cast<int32_t>(2 * page.scale_groups() * page.kv_heads);
  view.scale_group = MakeFastDivisor(static_cast<uint32_t>(page.scale_group));
  return view;
}

}  // namespace sluice::cuda
