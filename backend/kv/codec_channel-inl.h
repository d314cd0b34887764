// int8 and int4 of the KV codecs with one scale for neighbouring tokens of a channel. Included once
// per instruction set by Highway's foreach_target; has no meaning elsewhere.
#if defined(SLUICE_BACKEND_KV_CODEC_CHANNEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_BACKEND_KV_CODEC_CHANNEL_INL_H_
#undef SLUICE_BACKEND_KV_CODEC_CHANNEL_INL_H_
#else
#define SLUICE_BACKEND_KV_CODEC_CHANNEL_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "backend/kv/codec_int-inl.h"
#include "backend/kv/codec_kernels.h"
#include "backend/kv/codec_load-inl.h"
#include "backend/kv/codec_scale.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A strip of PairStep() channels over the tokens of one group. Strides: from token to token.
template <int kBits, class E>
HWY_INLINE bool EncodeStrip(const E* HWY_RESTRICT in, int64_t stride, int64_t tokens,
                            uint8_t* HWY_RESTRICT codes, int64_t code_stride,
                            uint16_t* HWY_RESTRICT scales, uint16_t* HWY_RESTRICT zeros) {
  const DF d;
  VF least[2] = {hn::Set(d, std::numeric_limits<float>::max()),
                 hn::Set(d, std::numeric_limits<float>::max())};
  VF most[2] = {hn::Neg(least[0]), hn::Neg(least[0])};
  VU largest[2] = {hn::Zero(DU()), hn::Zero(DU())};
  for (int64_t t = 0; t < tokens; ++t) {
    const Pair x = LoadPair(in + t * stride);
    largest[0] = hn::Max(largest[0], MagnitudeBits(x.even));
    largest[1] = hn::Max(largest[1], MagnitudeBits(x.odd));
    if constexpr (kBits == 4) {
      least[0] = hn::Min(least[0], x.even);
      least[1] = hn::Min(least[1], x.odd);
      most[0] = hn::Max(most[0], x.even);
      most[1] = hn::Max(most[1], x.odd);
    }
  }
  if (!WithinLimit(hn::Max(largest[0], largest[1]))) return false;
  Grid inverse{{hn::Zero(d), hn::Zero(d)}, {hn::Zero(d), hn::Zero(d)}};
  Pair range{hn::BitCast(d, largest[0]), hn::BitCast(d, largest[1])};
  if constexpr (kBits == 4) {
    inverse.zero = {FloorLanes(least[0]), FloorLanes(least[1])};
    range = {hn::Sub(most[0], inverse.zero.even), hn::Sub(most[1], inverse.zero.odd)};
    StoreExactPair(inverse.zero, zeros);
  }
  const Pair scale{ScaleLanes(range.even, kTop<kBits>), ScaleLanes(range.odd, kTop<kBits>)};
  StoreExactPair(scale, scales);
  const VF one = hn::Set(d, 1.0F);
  inverse.scale = {hn::Div(one, scale.even), hn::Div(one, scale.odd)};
  for (int64_t t = 0; t < tokens; ++t) {
    StoreCodes<kBits>(Quantize<kBits>(LoadPair(in + t * stride), inverse), codes + t * code_stride);
  }
  return true;
}

// The same for the last `columns` < PairStep() channels of a token.
template <int kBits, class E>
HWY_NOINLINE bool EncodeNarrowStrip(const E* in, int64_t stride, int64_t tokens, int64_t columns,
                                    uint8_t* codes, int64_t code_stride, uint16_t* scales,
                                    uint16_t* zeros) {
  E numbers[kMostGroup * kMostPairStep] = {};
  uint8_t bytes[kMostGroup * kMostPairStep];
  uint16_t own_scales[kMostPairStep];
  uint16_t own_zeros[kMostPairStep] = {};
  for (int64_t t = 0; t < tokens; ++t) {
    std::copy_n(in + t * stride, columns, numbers + t * kMostPairStep);
  }
  if (!EncodeStrip<kBits>(numbers, kMostPairStep, tokens, bytes, kMostPairStep, own_scales,
                          own_zeros)) {
    return false;
  }
  for (int64_t t = 0; t < tokens; ++t) {
    std::copy_n(bytes + t * kMostPairStep, columns * kBits / 8, codes + t * code_stride);
  }
  std::copy_n(own_scales, columns, scales);
  if (kBits == 4) std::copy_n(own_zeros, columns, zeros);
  return true;
}

template <int kBits, class E>
bool EncodeChannels(const CodecPlan& plan, const E* HWY_RESTRICT in, uint8_t* HWY_RESTRICT codes,
                    uint16_t* HWY_RESTRICT scales) {
  const int64_t width = plan.width();
  const int64_t code_stride = width * kBits / 8;
  const int64_t step = PairStep();
  for (int64_t token = 0; token < plan.tokens; token += plan.group) {
    const int64_t tokens = std::min(plan.group, plan.tokens - token);
    const E* rows = in + token * width;
    uint8_t* code_rows = codes + token * code_stride;
    uint16_t* zeros = scales + width;  // int4 only
    int64_t c = 0;
    for (; c + step <= width; c += step) {
      if (!EncodeStrip<kBits>(rows + c, width, tokens, code_rows + c * kBits / 8, code_stride,
                              scales + c, zeros + c)) {
        return false;
      }
    }
    if (c < width &&
        !EncodeNarrowStrip<kBits>(rows + c, width, tokens, width - c, code_rows + c * kBits / 8,
                                  code_stride, scales + c, zeros + c)) {
      return false;
    }
    scales += kBits == 4 ? 2 * width : width;
  }
  return true;
}

// kStream: past the caches where a token is whole units. REQUIRES then: `out` begins a cache line.
template <int kBits, bool kStream, class E>
void DecodeChannels(const CodecPlan& plan, const uint8_t* HWY_RESTRICT codes,
                    const uint16_t* HWY_RESTRICT scales, E* HWY_RESTRICT out) {
  const int64_t width = plan.width();
  const int64_t step = PairStep();
  const bool whole = width % kUnit == 0;
  for (int64_t token = 0; token < plan.tokens; ++token) {
    const int64_t group = token / plan.group;
    const uint16_t* scale = scales + group * (kBits == 4 ? 2 * width : width);
    const uint16_t* zero = kBits == 4 ? scale + width : scale;
    int64_t c = 0;
    if (kStream && whole) {
      for (; c < width; c += step) {
        const Grid grid{LoadPair(scale + c), LoadPair(zero + c)};
        StorePair<kStream>(Dequantize<kBits>(LoadCodes<kBits>(codes + c * kBits / 8), grid),
                           out + c);
      }
    }
    for (; c + step <= width; c += step) {
      const Grid grid{LoadPair(scale + c), LoadPair(zero + c)};
      StorePair(Dequantize<kBits>(LoadCodes<kBits>(codes + c * kBits / 8), grid), out + c);
    }
    if (c < width) {
      uint16_t own_scales[kMostPairStep] = {};
      uint16_t own_zeros[kMostPairStep] = {};
      std::copy_n(scale + c, width - c, own_scales);
      std::copy_n(zero + c, width - c, own_zeros);
      DecodeRun<kBits>(codes + c * kBits / 8, width - c,
                       {LoadPair(own_scales), LoadPair(own_zeros)}, out + c);
    }
    codes += width * kBits / 8;
    out += width;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif
