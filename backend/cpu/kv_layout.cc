#include "backend/cpu/kv_layout.h"

#include <bit>
#include <cstring>

#include "backend/cpu/kv_transpose.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

void CopyRows(const std::byte* in, int64_t in_stride, int64_t rows, int64_t row_bytes,
              std::byte* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(out + r * out_stride, in + r * in_stride, static_cast<size_t>(row_bytes));
  }
}

// Strides and sizes both directions share.
struct PageWalk {
  explicit PageWalk(const KvLayout& layout)
      : dim_bytes(layout.head_dim * layout.element_bytes()),
        token_bytes(layout.kv_heads * dim_bytes),
        token_words(token_bytes / 4),
        stride_bytes(layout.value_stride() * layout.element_bytes()) {}
  int64_t dim_bytes;     // one head's K or V of one token on the host
  int64_t token_bytes;   // all heads' K or V of one token on the host
  int64_t token_words;   // the same in units
  int64_t stride_bytes;  // from token to token in V on the device
};

}  // namespace

void WriteToken(const KvLayout& layout, const float* key, const float* value, std::byte* head,
                int64_t slot) {
  auto* keys = reinterpret_cast<uint32_t*>(head) + slot;
  std::byte* values =
      head + layout.key_bytes() + slot * layout.value_stride() * layout.element_bytes();
  if (layout.element == Element::kF32) {
    for (int64_t d = 0; d < layout.head_dim; ++d) {
      keys[d * layout.page_tokens] = std::bit_cast<uint32_t>(key[d]);
    }
    std::memcpy(values, value, static_cast<size_t>(layout.head_dim) * sizeof(float));
    return;
  }
  for (int64_t u = 0; u < layout.head_dim / 2; ++u) {
    const uint32_t low = FloatToBF16(key[2 * u]);
    const uint32_t high = FloatToBF16(key[2 * u + 1]);
    keys[u * layout.page_tokens] = low | high << 16;
  }
  auto* narrow = reinterpret_cast<uint16_t*>(values);
  for (int64_t d = 0; d < layout.head_dim; ++d) narrow[d] = FloatToBF16(value[d]);
}

void StorePage(const KvLayout& layout, const std::byte* page, std::byte* host) {
  const PageWalk walk(layout);
  std::byte* host_values = host + layout.host_half_bytes();
  for (int64_t h = 0; h < layout.kv_heads; ++h) {
    const std::byte* head = page + h * layout.head_bytes();
    TransposeWords(reinterpret_cast<const uint32_t*>(head), layout.page_tokens, layout.units(),
                   layout.page_tokens, reinterpret_cast<uint32_t*>(host + h * walk.dim_bytes),
                   walk.token_words);
    CopyRows(head + layout.key_bytes(), walk.stride_bytes, layout.page_tokens, walk.dim_bytes,
             host_values + h * walk.dim_bytes, walk.token_bytes);
  }
}

void LoadPage(const KvLayout& layout, const std::byte* host, std::byte* page) {
  const PageWalk walk(layout);
  const std::byte* host_values = host + layout.host_half_bytes();
  for (int64_t h = 0; h < layout.kv_heads; ++h) {
    std::byte* head = page + h * layout.head_bytes();
    TransposeWords(reinterpret_cast<const uint32_t*>(host + h * walk.dim_bytes), walk.token_words,
                   layout.page_tokens, layout.units(), reinterpret_cast<uint32_t*>(head),
                   layout.page_tokens);
    CopyRows(host_values + h * walk.dim_bytes, walk.token_bytes, layout.page_tokens, walk.dim_bytes,
             head + layout.key_bytes(), walk.stride_bytes);
  }
}

KvShape ShapeOf(const KvLayout& layout) {
  return {layout.layers, layout.page_tokens, layout.kv_heads, layout.head_dim,
          layout.element == Element::kF32 ? KvElement::kF32 : KvElement::kBF16};
}

absl::StatusOr<KvPools> KvPools::Allocate(const KvLayout& layout, Blocks device, Blocks host,
                                          const KvCodecOptions& codec,
                                          const HostMemoryOptions& host_memory) {
  KvPools pools;
  pools.layout_ = layout;
  if (codec.kind != KvCodecKind::kRaw) {
    SLUICE_ASSIGN_OR_RETURN(pools.codec_, KvCodec::Create(ShapeOf(layout), codec));
  }
  pools.device_blocks_ = device;
  pools.host_blocks_ = host;
  const Bytes device_bytes(layout.layers * device.value() * layout.page_bytes());
  const Bytes host_bytes(host.value() * pools.host_block_bytes().value());
  SLUICE_ASSIGN_OR_RETURN(pools.device_, HugeBuffer::Allocate(device_bytes, "the device KV pool"));
  SLUICE_ASSIGN_OR_RETURN(pools.host_,
                          HostPool::Create(host_bytes, host_memory, "the host KV pool"));
  return pools;
}

}  // namespace sluice
