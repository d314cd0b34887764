// KvLayout: where K and V lie in the device pool and in the host pool, and the copies between both.
//
// Device, one page = one block of one layer:
//   [kv_head] { K: [unit][token] of 32 bits, V: [token][value_stride] of elements }
//   A unit is one dimension in f32 and a pair of neighbouring dimensions in bf16, so that one
//   vector load brings the same dimensions of many tokens and attention needs no horizontal sums.
//   value_stride is head_dim rounded up to 64 bytes; the padding stays zero.
// Host, one run per block: [layer][K, V][token][kv_head][dim] of elements, no padding; or each
// layer encoded (backend/kv/kv_codec.h), which leaves the layers apart and makes the run shorter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "backend/cpu/element.h"
#include "backend/cpu/huge_buffer.h"
#include "backend/kv/host_pool.h"
#include "backend/kv/kv_codec.h"
#include "scheduler/base/units.h"

namespace sluice {

struct KvLayout {
  Element element = Element::kF32;
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;     // even
  int64_t page_tokens = 0;  // a multiple of 16

  int64_t element_bytes() const { return ElementBytes(element); }

  // --- Device ---
  int64_t units() const { return element == Element::kF32 ? head_dim : head_dim / 2; }
  int64_t value_stride() const {
    const int64_t line = 64 / element_bytes();
    return (head_dim + line - 1) / line * line;
  }
  int64_t key_bytes() const { return units() * page_tokens * 4; }
  int64_t head_bytes() const {
    return key_bytes() + page_tokens * value_stride() * element_bytes();
  }
  int64_t page_bytes() const { return kv_heads * head_bytes(); }

  // --- Host, before a codec ---
  int64_t host_half_bytes() const {  // K or V of one layer of one block
    return page_tokens * kv_heads * head_dim * element_bytes();
  }
  int64_t host_layer_bytes() const { return 2 * host_half_bytes(); }
  Bytes block_bytes() const { return Bytes(layers * host_layer_bytes()); }
};

// The same as the codecs name it.
KvShape ShapeOf(const KvLayout& layout);

// Writes one token's K and V of one head, rounding to the layout's element.
// `head` points to the head's part of a page; `slot` is the token's place in the page.
void WriteToken(const KvLayout& layout, const float* key, const float* value, std::byte* head,
                int64_t slot);

// How a whole page is copied; the bytes are the same.
struct PageCopy {
  // Write past the caches: for what nobody reads soon. A line then is written without being read
  // first, and what the caches hold stays there. Shapes whose rows of a head are not whole cache
  // lines are written as always.
  bool stream = false;
  // What will be read after this, as large: fetched towards the end of this copy. May be null.
  const std::byte* next = nullptr;
};

// Whole pages, one layer of one block: device to host and back. Exact inverses.
void StorePage(const KvLayout& layout, const std::byte* page, std::byte* host,
               const PageCopy& how = {});
void LoadPage(const KvLayout& layout, const std::byte* host, std::byte* page,
              const PageCopy& how = {});

// The memory of both tiers.
class KvPools {
 public:
  // `codec`: what blocks are on the host. Returns RESOURCE_EXHAUSTED if the machine has not that
  // much memory, INVALID_ARGUMENT if the codec does not take blocks of this shape or there is no
  // such NUMA node.
  static absl::StatusOr<KvPools> Allocate(const KvLayout& layout, Blocks device, Blocks host,
                                          const KvCodecOptions& codec = {},
                                          const HostMemoryOptions& host_memory = {});

  const KvLayout& layout() const { return layout_; }
  Blocks device_blocks() const { return device_blocks_; }
  Blocks host_blocks() const { return host_blocks_; }

  // The page of block b in `layer` is at LayerPages(layer) + b * page_bytes().
  std::byte* LayerPages(int64_t layer) const {
    return device_.data() + layer * device_blocks_.value() * layout_.page_bytes();
  }
  std::byte* Page(int64_t layer, BlockId block) const {
    return LayerPages(layer) + block.value() * layout_.page_bytes();
  }
  // Null: blocks on the host are as they are (raw).
  const KvCodec* host_codec() const { return codec_.has_value() ? &*codec_ : nullptr; }
  // What is kept on the host and moves over the link: a layer of a block, and a block.
  int64_t host_layer_bytes() const {
    return codec_.has_value() ? codec_->encoded_slice_bytes().value() : layout_.host_layer_bytes();
  }
  Bytes host_block_bytes() const { return Bytes(layout_.layers * host_layer_bytes()); }
  std::byte* HostLayer(int64_t layer, BlockId block) const {
    return host_.data() + block.value() * host_block_bytes().value() + layer * host_layer_bytes();
  }
  std::span<std::byte> HostBlock(BlockId block) const {
    return {HostLayer(0, block), host_block_bytes().size()};
  }

 private:
  KvLayout layout_;
  Blocks device_blocks_;
  Blocks host_blocks_;
  std::optional<KvCodec> codec_;
  HugeBuffer device_;
  HostPool host_;
};

}  // namespace sluice
