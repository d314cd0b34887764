#include "backend/kv/codec_kernels.h"

#include <algorithm>
#include <cstring>

// Highway 1.0.3 uses an SSE4.1 instruction in SSSE3's shift of 16-bit lanes.
#define HWY_DISABLED_TARGETS HWY_SSSE3
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/kv/codec_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/kv/codec_channel-inl.h"
#include "backend/kv/codec_fp8-inl.h"
#include "backend/kv/codec_int-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

template <class E>
bool EncodeElements(const CodecPlan& plan, const E* in, uint8_t* codes, uint16_t* scales) {
  const bool channel = plan.axis == KvScaleAxis::kChannel;
  switch (plan.kind) {
    case KvCodecKind::kFp8:
      return EncodeFp8(plan, in, codes, scales);
    case KvCodecKind::kInt8:
      return channel ? EncodeChannels<8>(plan, in, codes, scales)
                     : EncodeTokens<8>(plan, in, codes, scales);
    case KvCodecKind::kInt4:
      return channel ? EncodeChannels<4>(plan, in, codes, scales)
                     : EncodeTokens<4>(plan, in, codes, scales);
    case KvCodecKind::kRaw:
      break;
  }
  return false;
}

template <bool kStream, class E>
void DecodeElements(const CodecPlan& plan, const uint8_t* codes, const uint16_t* scales, E* out) {
  const bool channel = plan.axis == KvScaleAxis::kChannel;
  if (plan.kind == KvCodecKind::kFp8) {
    DecodeFp8<kStream>(plan, codes, scales, out);
  } else if (plan.kind == KvCodecKind::kInt8) {
    channel ? DecodeChannels<8, kStream>(plan, codes, scales, out)
            : DecodeTokens<8, kStream>(plan, codes, scales, out);
  } else {
    channel ? DecodeChannels<4, kStream>(plan, codes, scales, out)
            : DecodeTokens<4, kStream>(plan, codes, scales, out);
  }
}

bool EncodeAny(const CodecPlan& plan, const std::byte* in, std::byte* out) {
  auto* codes = reinterpret_cast<uint8_t*>(out);
  auto* scales = reinterpret_cast<uint16_t*>(out + plan.code_bytes());
  if (plan.element == KvElement::kF32) {
    return EncodeElements(plan, reinterpret_cast<const float*>(in), codes, scales);
  }
  return EncodeElements(plan, reinterpret_cast<const uint16_t*>(in), codes, scales);
}

void DecodeAny(const CodecPlan& plan, const std::byte* in, std::byte* out, bool stream) {
  const auto* codes = reinterpret_cast<const uint8_t*>(in);
  const auto* scales = reinterpret_cast<const uint16_t*>(in + plan.code_bytes());
  if (plan.element == KvElement::kF32) {
    DecodeElements<false>(plan, codes, scales, reinterpret_cast<float*>(out));
  } else if (stream && reinterpret_cast<uintptr_t>(out) % 64 == 0) {
    DecodeElements<true>(plan, codes, scales, reinterpret_cast<uint16_t*>(out));
    hwy::FlushStream();
  } else {
    DecodeElements<false>(plan, codes, scales, reinterpret_cast<uint16_t*>(out));
  }
}

template <class E>
void DecodeHeadElements(const CodecPlan& plan, const std::byte* in, int64_t head, int64_t first,
                        int64_t count, std::byte* out, int64_t stride) {
  const int64_t scales_each = plan.groups() * (plan.kind == KvCodecKind::kInt4 ? 2 : 1);
  const auto* all_codes = reinterpret_cast<const uint8_t*>(in);
  const auto* all_scales = reinterpret_cast<const uint16_t*>(in + plan.code_bytes());
  for (int64_t token = first; token < first + count; ++token, out += stride) {
    const int64_t row = token * plan.heads + head;
    const uint8_t* codes = all_codes + row * plan.dim * plan.code_bits() / 8;
    const uint16_t* scales = all_scales + row * scales_each;
    auto* numbers = reinterpret_cast<E*>(out);
    if (plan.kind == KvCodecKind::kFp8) {
      DecodeFp8Head(plan, codes, scales, numbers);
    } else if (plan.kind == KvCodecKind::kInt8) {
      DecodeTokenHead<8>(plan, codes, scales, numbers);
    } else {
      DecodeTokenHead<4>(plan, codes, scales, numbers);
    }
  }
}

void DecodeHeadAny(const CodecPlan& plan, const std::byte* in, int64_t head, int64_t first,
                   int64_t count, std::byte* out, int64_t stride) {
  if (plan.element == KvElement::kF32) {
    DecodeHeadElements<float>(plan, in, head, first, count, out, stride);
  } else {
    DecodeHeadElements<uint16_t>(plan, in, head, first, count, out, stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(EncodeAny);
HWY_EXPORT(DecodeAny);
HWY_EXPORT(DecodeHeadAny);

bool EncodeHalf(const CodecPlan& plan, const std::byte* in, std::byte* out) {
  return HWY_DYNAMIC_DISPATCH(EncodeAny)(plan, in, out);
}

void DecodeHalf(const CodecPlan& plan, const std::byte* in, std::byte* out, bool stream) {
  HWY_DYNAMIC_DISPATCH(DecodeAny)(plan, in, out, stream);
}

void DecodeHeadRows(const CodecPlan& plan, const std::byte* in, int64_t head, int64_t first,
                    int64_t count, std::byte* out, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(DecodeHeadAny)(plan, in, head, first, count, out, stride);
}

}  // namespace sluice
#endif
