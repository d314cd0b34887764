// KvCodec: layer slices of KV blocks to bytes for a slower tier, and back.
//
//   kind    bits  one scale for                              worst error of a number x
//   raw     -     -                                          none
//   fp8     8     `group` dimensions of a head of a token    2^-4 |x| + 2^-10 of its group's scale
//   int8    8     the same                                   group's largest / 254 (+ rounding)
//   int4    4     the same, or `group` tokens of a channel   group's range / 30    (+ rounding)
//
// fp8 is E4M3 (Micikevicius et al. 2022) times a power of two: integer shifts only. int8 is
// symmetric, int4 has a smallest value per group besides the scale (KIVI, Liu et al. 2024: K per
// channel, V per token). Scales and smallest values are bf16. Rounding is to nearest even; what is
// decoded is rounded once more to the element type.
//
// An encoded slice is K, then V, each
//   codes   [token][kv_head][dim], `bits` each; int4: the even dimension in the low half of a byte
//   scales  per token:   [token][kv_head][group], int4: each followed by its smallest value
//           per channel: [token group]{ scales [kv_head][dim], int4: smallest values likewise }
// without header or padding; little-endian. Which codec and shape wrote it is not in it: name() is
// for the namespace of the store, and integrity is for a checksum (checksum.h).
//
// Every instruction set writes the same bytes and decodes the same numbers.
//
// Immutable; const methods may run concurrently.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/kv/codec_kernels.h"
#include "backend/kv/codec_shape.h"
#include "scheduler/base/units.h"

namespace sluice {

struct KvCodecOptions {
  KvCodecKind kind = KvCodecKind::kRaw;
  // What shares a scale. 0: the kind's default, measured in README.md: 128 dimensions for fp8
  // and int8, 32 dimensions or tokens for int4. Else an even number in [16, 256].
  int64_t group = 0;
  // K only; V is always per token. int8 and int4: kChannel groups tokens of a channel.
  KvScaleAxis key_axis = KvScaleAxis::kDefault;
};

// Tokens [first, first + count) of one head, and where their K and V go: a row of head_dim elements
// per token. Strides in bytes, multiples of 4.
struct KvHeadRows {
  int64_t head = 0;
  int64_t first = 0;
  int64_t count = 0;
  std::byte* keys = nullptr;
  int64_t key_stride = 0;
  std::byte* values = nullptr;
  int64_t value_stride = 0;
};

// "raw", "fp8", "int8", "int4".
std::string_view KvCodecKindName(KvCodecKind kind);
// Returns INVALID_ARGUMENT naming the kinds there are.
absl::StatusOr<KvCodecKind> ParseKvCodecKind(std::string_view name);

class KvCodec {
 public:
  // Returns INVALID_ARGUMENT naming the field out of range.
  static absl::StatusOr<KvCodec> Create(const KvShape& shape, const KvCodecOptions& options);

  // Tells apart what cannot be decoded by another: kind, axes, group, format version, as in
  // "int4-kc32-vt32-v1".
  const std::string& name() const { return name_; }
  const KvShape& shape() const { return shape_; }
  KvCodecKind kind() const { return kind_; }

  // Exactly what is written. Multiples of 4.
  Bytes encoded_slice_bytes() const { return Bytes(key_.bytes() + value_.bytes()); }
  Bytes encoded_block_bytes() const { return Bytes(shape_.layers * encoded_slice_bytes().value()); }
  // Encoded bytes per byte of KV; 1 for raw.
  double ratio() const { return AsDouble(encoded_block_bytes()) / AsDouble(shape_.block_bytes()); }

  // Encodes one layer slice.
  // Returns OUT_OF_RANGE, with `encoded` undefined, if a number is not finite or above 2^120 in
  // magnitude: KV that is broken must not be kept. (raw copies whatever there is.)
  // REQUIRES: sizes as above, both 4-byte aligned, no overlap.
  absl::Status EncodeLayer(std::span<const std::byte> slice, std::span<std::byte> encoded) const;

  // Decodes one layer slice. Any bytes decode to something. `stream`: `slice` is in a pool and not
  // read soon: it is written past the caches (bf16 and aligned to a cache line, else as always).
  // REQUIRES: as for EncodeLayer.
  void DecodeLayer(std::span<const std::byte> encoded, std::span<std::byte> slice,
                   bool stream = false) const;

  // Whether DecodeHead() can be used: not raw, and every scale belongs to one token.
  bool decodes_heads() const {
    return kind_ != KvCodecKind::kRaw && key_.axis == KvScaleAxis::kToken;
  }
  // Decodes some tokens of one head of a layer slice, to the numbers DecodeLayer gives, bit by bit.
  // REQUIRES: decodes_heads(); tokens and head are of the shape; alignment as for EncodeLayer.
  void DecodeHead(std::span<const std::byte> encoded, const KvHeadRows& rows) const;

 private:
  KvCodec() = default;

  KvShape shape_;
  KvCodecKind kind_ = KvCodecKind::kRaw;
  CodecPlan key_;
  CodecPlan value_;
  std::string name_;
};

}  // namespace sluice
