// The loops of KvCodec over K or V of one layer slice, for every instruction set. The format is
// described in kv_codec.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/kv/codec_shape.h"

namespace sluice {

enum class KvCodecKind : uint8_t { kRaw, kFp8, kInt8, kInt4 };

// Numbers that share a scale: neighbouring dimensions of one token, or one channel (a dimension of
// a head) of neighbouring tokens.
enum class KvScaleAxis : uint8_t { kDefault, kToken, kChannel };

// Numbers above this are refused: no activation is that large, and nothing overflows below it.
inline constexpr float kKvCodecLimit = 0x1p120F;
// No scale is smaller, so that its inverse is finite; nor does fp8 tell apart what is closer
// together than 2^-126.
inline constexpr float kKvLeastScale = 0x1p-120F;
inline constexpr int kKvLeastFp8Exponent = -117;

// K or V of a slice: sizes, and where things lie once encoded.
struct CodecPlan {
  KvCodecKind kind = KvCodecKind::kRaw;
  KvScaleAxis axis = KvScaleAxis::kToken;  // not kDefault
  KvElement element = KvElement::kBF16;
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t dim = 0;    // even
  int64_t group = 0;  // even; the last group of a head or block may be shorter

  int64_t width() const { return heads * dim; }
  int64_t elements() const { return tokens * width(); }
  int64_t element_bytes() const { return element == KvElement::kF32 ? 4 : 2; }
  int64_t code_bits() const {
    return kind == KvCodecKind::kRaw ? 8 * element_bytes() : kind == KvCodecKind::kInt4 ? 4 : 8;
  }
  int64_t code_bytes() const { return elements() * code_bits() / 8; }
  // Groups of a head (kToken) or of the tokens (kChannel).
  int64_t groups() const {
    return ((axis == KvScaleAxis::kToken ? dim : tokens) + group - 1) / group;
  }
  // kToken: groups of all tokens.
  int64_t token_groups() const { return tokens * heads * groups(); }
  int64_t scale_bytes() const {
    if (kind == KvCodecKind::kRaw) return 0;
    const int64_t scales = axis == KvScaleAxis::kToken ? token_groups() : groups() * width();
    return scales * (kind == KvCodecKind::kInt4 ? 4 : 2);
  }
  int64_t bytes() const { return code_bytes() + scale_bytes(); }
};

// `in`: elements() elements; `out`: bytes(). False if a number is not finite or beyond the limit.
// REQUIRES: not raw; `in` and `out` are 4-byte aligned.
bool EncodeHalf(const CodecPlan& plan, const std::byte* in, std::byte* out);
// `stream`: where the shape allows it, `out` is written past the caches.
void DecodeHalf(const CodecPlan& plan, const std::byte* in, std::byte* out, bool stream);

// Tokens [first, first + count) of one head, to rows of `dim` elements, `stride` bytes apart: what
// DecodeHalf makes of them. REQUIRES: as above; scales per token; strides are multiples of 4.
void DecodeHeadRows(const CodecPlan& plan, const std::byte* in, int64_t head, int64_t first,
                    int64_t count, std::byte* out, int64_t stride);

}  // namespace sluice
