// KvShape: what one block of KV holds, and how large it is as plain elements.
//
// The host layout (host, disk and remote tier, before a codec): one contiguous run per block,
//   [layer][K, V][token][kv_head][dim]
// A layer slice is the part of one layer, [K, V][token][kv_head][dim]: the unit in which blocks are
// encoded, checked and loaded.
#pragma once

#include <cstdint>

#include "scheduler/base/units.h"

namespace sluice {

enum class KvElement : uint8_t { kF32, kBF16 };

struct KvShape {
  int64_t layers = 0;        // at least 1
  int64_t block_tokens = 0;  // a multiple of 16 in [16, 256]
  int64_t kv_heads = 0;      // at least 1
  int64_t head_dim = 0;      // even, at most 1024
  KvElement element = KvElement::kBF16;

  constexpr int64_t element_bytes() const { return element == KvElement::kF32 ? 4 : 2; }
  constexpr int64_t width() const { return kv_heads * head_dim; }  // elements of K of one token
  constexpr int64_t half_elements() const { return block_tokens * width(); }  // K or V of a slice
  constexpr Bytes slice_bytes() const { return Bytes(2 * half_elements() * element_bytes()); }
  constexpr Bytes block_bytes() const { return Bytes(layers * slice_bytes().value()); }

  friend constexpr bool operator==(const KvShape&, const KvShape&) = default;
};

}  // namespace sluice
