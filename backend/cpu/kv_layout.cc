#include "backend/cpu/kv_layout.h"

#include <bit>
#include <cstring>

#include "scheduler/base/status_macros.h"

namespace sluice {

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
