// int8 and int4 of the KV codecs with one scale for neighbouring dimensions of a token. Included
// once per instruction set by Highway's foreach_target; has no meaning elsewhere.
//
// Numbers go through the registers in pairs of an even and an odd dimension, which is how bf16
// numbers lie in 32-bit lanes and how two int4 codes lie in a byte: nothing needs to be shuffled.
#if defined(SLUICE_BACKEND_KV_CODEC_INT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_BACKEND_KV_CODEC_INT_INL_H_
#undef SLUICE_BACKEND_KV_CODEC_INT_INL_H_
#else
#define SLUICE_BACKEND_KV_CODEC_INT_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "backend/kv/codec_kernels.h"
#include "backend/kv/codec_load-inl.h"
#include "backend/kv/codec_scale.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Scales (or their inverses) and smallest values of the pairs at hand.
struct Grid {
  Pair scale;
  Pair zero;
};

// What a group's numbers are mapped from.
template <int kBits>
inline constexpr int32_t kTop = kBits == 8 ? kInt8Top : kInt4Top;

// The nearest integer, ties to even, in the lower bits, as a two's complement. REQUIRES: |x| <
// 2^22.
HWY_INLINE VU NearestBits(VF x) {
  return hn::BitCast(DU(), hn::Add(x, hn::Set(DF(), 12582912.0F)));  // 1.5 * 2^23: the unit is 1
}

// Two codes per lane: code of the even number, then of the odd one.
template <int kBits>
HWY_INLINE VU Quantize(const Pair& x, const Grid& inverse) {
  const DU du;
  if constexpr (kBits == 8) {
    const VU even = NearestBits(hn::Mul(x.even, inverse.scale.even));
    const VU odd = NearestBits(hn::Mul(x.odd, inverse.scale.odd));
    return hn::Or(hn::And(even, hn::Set(du, 0xff)),
                  hn::And(hn::ShiftLeft<8>(odd), hn::Set(du, 0xff00)));
  } else {
    const VF even = hn::Mul(hn::Sub(x.even, inverse.zero.even), inverse.scale.even);
    const VF odd = hn::Mul(hn::Sub(x.odd, inverse.zero.odd), inverse.scale.odd);
    return hn::Or(hn::And(NearestBits(even), hn::Set(du, 0x0f)),
                  hn::And(hn::ShiftLeft<4>(NearestBits(odd)), hn::Set(du, 0xf0)));
  }
}

template <int kBits>
HWY_INLINE Pair Dequantize(VU codes, const Grid& grid) {
  const DF d;
  const DI di;
  if constexpr (kBits == 8) {
    const auto signed_codes = hn::BitCast(di, codes);
    const VF even = hn::ConvertTo(d, hn::ShiftRight<24>(hn::ShiftLeft<24>(signed_codes)));
    const VF odd = hn::ConvertTo(d, hn::ShiftRight<24>(hn::ShiftLeft<16>(signed_codes)));
    return {hn::Mul(even, grid.scale.even), hn::Mul(odd, grid.scale.odd)};
  } else {
    const VU low = hn::And(codes, hn::Set(DU(), 0xf));
    const VF even = hn::ConvertTo(d, hn::BitCast(di, low));
    const VF odd = hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<4>(codes)));
    return {hn::Add(hn::Mul(even, grid.scale.even), grid.zero.even),
            hn::Add(hn::Mul(odd, grid.scale.odd), grid.zero.odd)};
  }
}

template <int kBits>
HWY_INLINE void StoreCodes(VU codes, uint8_t* out) {
  if constexpr (kBits == 8) {
    const hn::Rebind<uint16_t, DU> half;
    hn::StoreU(hn::TruncateTo(half, codes), half, reinterpret_cast<uint16_t*>(out));
  } else {
    const hn::Rebind<uint8_t, DU> quarter;
    hn::StoreU(hn::TruncateTo(quarter, codes), quarter, out);
  }
}

template <int kBits>
HWY_INLINE VU LoadCodes(const uint8_t* in) {
  if constexpr (kBits == 8) {
    const hn::Rebind<uint16_t, DU> half;
    return hn::PromoteTo(DU(), hn::LoadU(half, reinterpret_cast<const uint16_t*>(in)));
  } else {
    return hn::PromoteTo(DU(), hn::LoadU(hn::Rebind<uint8_t, DU>(), in));
  }
}

template <class E>
HWY_INLINE void FindExtremes(const E* HWY_RESTRICT in, int64_t n, float* low, float* high) {
  const DF d;
  const int64_t step = PairStep();
  VF least = hn::Set(d, std::numeric_limits<float>::max());
  VF most = hn::Neg(least);
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    const Pair x = LoadPair(in + i);
    least = hn::Min(least, hn::Min(x.even, x.odd));
    most = hn::Max(most, hn::Max(x.even, x.odd));
  }
  *low = hn::GetLane(hn::MinOfLanes(d, least));
  *high = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < n; ++i) {
    const float x = ToFloat(in[i]);
    *low = std::min(*low, x);
    *high = std::max(*high, x);
  }
}

template <int kBits, class E>
HWY_INLINE void EncodeRun(const E* HWY_RESTRICT in, int64_t n, const Grid& inverse,
                          uint8_t* HWY_RESTRICT codes) {
  const int64_t step = PairStep();
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    StoreCodes<kBits>(Quantize<kBits>(LoadPair(in + i), inverse), codes + i * kBits / 8);
  }
  if (i == n) return;
  if (n >= step) {  // once more, some of it: the same codes again
    i = n - step;
    StoreCodes<kBits>(Quantize<kBits>(LoadPair(in + i), inverse), codes + i * kBits / 8);
    return;
  }
  E numbers[kMostPairStep] = {};
  uint8_t bytes[kMostPairStep];
  std::copy_n(in + i, n - i, numbers);
  StoreCodes<kBits>(Quantize<kBits>(LoadPair(numbers), inverse), bytes);
  std::copy_n(bytes, (n - i) * kBits / 8, codes + i * kBits / 8);
}

// A few groups: their sizes, and what maps their numbers to codes.
struct GridBatch {
  int64_t count = 0;
  const int64_t* sizes = nullptr;
  alignas(64) float zero[kMostBatch] = {};
  alignas(64) float scale[kMostBatch];
  alignas(64) float inverse[kMostBatch];
};

// Measures the groups of a batch and finds their scales. False if a number is beyond the limit.
template <int kBits, bool kWhole, class E>
HWY_INLINE bool MeasureBatch(const E* HWY_RESTRICT in, GridBatch& batch) {
  const DF d;
  VU largest = hn::Zero(DU());
  alignas(64) float high[kMostBatch] = {};
  for (int64_t j = 0; j < batch.count; ++j) {
    largest = ReplaceLane(largest, j, LargestBits<kWhole>(in, batch.sizes[j]));
    if constexpr (kBits == 4) FindExtremes(in, batch.sizes[j], batch.zero + j, high + j);
    in += batch.sizes[j];
  }
  if (!WithinLimit(largest)) return false;
  VF range = hn::BitCast(d, largest);
  if constexpr (kBits == 4) {
    const VF zero = FloorLanes(hn::Load(d, batch.zero));
    hn::Store(zero, d, batch.zero);
    range = hn::Sub(hn::Load(d, high), zero);
  }
  const VF scale = ScaleLanes(range, kTop<kBits>);
  hn::Store(scale, d, batch.scale);
  hn::Store(hn::Div(hn::Set(d, 1.0F), scale), d, batch.inverse);
  return true;
}

// Codes of a batch's groups of whole units. Returns the numbers encoded.
template <int kBits, class E>
HWY_INLINE int64_t EncodeUnits(const GridBatch& batch, const E* HWY_RESTRICT in,
                               uint8_t* HWY_RESTRICT codes) {
  const DF d;
  float inverse[kMostUnits];
  float zero[kMostUnits];
  int64_t units = 0;
  for (int64_t j = 0; j < batch.count; ++j) {
    for (int64_t i = 0; i < batch.sizes[j]; i += kUnit) {
      inverse[units] = batch.inverse[j];
      if (kBits == 4) zero[units] = batch.zero[j];
      ++units;
    }
  }
  const int64_t step = PairStep();
  for (int64_t u = 0; u < units; ++u) {
    const VF inverses = hn::Set(d, inverse[u]);
    const VF zeros = kBits == 4 ? hn::Set(d, zero[u]) : inverses;
    const Grid grid{{inverses, inverses}, {zeros, zeros}};
    hwy::Prefetch(in + (units + u) * kUnit);  // of the next batch
    for (int64_t i = 0; i < kUnit; i += step) {
      const int64_t at = u * kUnit + i;
      StoreCodes<kBits>(Quantize<kBits>(LoadPair(in + at), grid), codes + at * kBits / 8);
    }
  }
  return units * kUnit;
}

template <int kBits, class E>
HWY_INLINE int64_t EncodeGroups(const GridBatch& batch, const E* HWY_RESTRICT in,
                                uint8_t* HWY_RESTRICT codes) {
  const DF d;
  int64_t at = 0;
  for (int64_t j = 0; j < batch.count; ++j) {
    const VF inverse = hn::Set(d, batch.inverse[j]);
    const VF zero = hn::Set(d, batch.zero[j]);
    EncodeRun<kBits>(in + at, batch.sizes[j], {{inverse, inverse}, {zero, zero}},
                     codes + at * kBits / 8);
    at += batch.sizes[j];
  }
  return at;
}

template <int kBits, bool kWhole, class E>
bool EncodeBatches(const CodecPlan& plan, const E* HWY_RESTRICT in, uint8_t* HWY_RESTRICT codes,
                   uint16_t* HWY_RESTRICT scales) {
  const int64_t groups = plan.token_groups();
  GroupSizes sizes(plan);
  GridBatch batch;
  for (int64_t first = 0; first < groups; first += BatchGroups()) {
    batch.count = std::min(BatchGroups(), groups - first);
    batch.sizes = sizes.Next();
    if (!MeasureBatch<kBits, kWhole>(in, batch)) return false;
    for (int64_t j = 0; j < batch.count; ++j) {
      *scales++ = UpperHalf(batch.scale[j]);
      if (kBits == 4) *scales++ = UpperHalf(batch.zero[j]);
    }
    const int64_t n =
        kWhole ? EncodeUnits<kBits>(batch, in, codes) : EncodeGroups<kBits>(batch, in, codes);
    in += n;
    codes += n * kBits / 8;
  }
  return true;
}

template <int kBits, class E>
bool EncodeTokens(const CodecPlan& plan, const E* in, uint8_t* codes, uint16_t* scales) {
  return GroupSizes(plan).InUnits() ? EncodeBatches<kBits, true>(plan, in, codes, scales)
                                    : EncodeBatches<kBits, false>(plan, in, codes, scales);
}

template <int kBits, class E>
HWY_INLINE void DecodeRun(const uint8_t* HWY_RESTRICT codes, int64_t n, const Grid& grid,
                          E* HWY_RESTRICT out) {
  const int64_t step = PairStep();
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    StorePair(Dequantize<kBits>(LoadCodes<kBits>(codes + i * kBits / 8), grid), out + i);
  }
  if (i == n) return;
  if (n >= step) {
    i = n - step;
    StorePair(Dequantize<kBits>(LoadCodes<kBits>(codes + i * kBits / 8), grid), out + i);
    return;
  }
  uint8_t bytes[kMostPairStep] = {};
  E numbers[kMostPairStep];
  std::copy_n(codes + i * kBits / 8, (n - i) * kBits / 8, bytes);
  StorePair(Dequantize<kBits>(LoadCodes<kBits>(bytes), grid), numbers);
  std::copy_n(numbers, n - i, out + i);
}

// One head of one token.
template <int kBits, class E>
HWY_INLINE void DecodeTokenHead(const CodecPlan& plan, const uint8_t* HWY_RESTRICT codes,
                                const uint16_t* HWY_RESTRICT scales, E* HWY_RESTRICT out) {
  const DF d;
  const int64_t dim = plan.dim;
  const int64_t group = plan.group;
  for (int64_t start = 0; start < dim; start += group) {
    const int64_t n = std::min(group, dim - start);
    const VF scale = hn::Set(d, FromUpperHalf(*scales++));
    const VF zero = hn::Set(d, kBits == 4 ? FromUpperHalf(*scales++) : 0.0F);
    DecodeRun<kBits>(codes, n, {{scale, scale}, {zero, zero}}, out);
    out += n;
    codes += n * kBits / 8;
  }
}

// Groups of `units` whole units each.
template <int kBits, bool kStream, class E>
void DecodeEqualUnits(const CodecPlan& plan, int64_t units, const uint8_t* codes,
                      const uint16_t* scales, E* out) {
  ForEqualUnits<kBits, kBits == 4 ? 2 : 1>(
      plan.token_groups(), units, codes, scales, out,
      [](const uint16_t* grid_at, const uint8_t* in, E* to) HWY_ATTR {
        const VF scale = hn::Set(DF(), FromUpperHalf(grid_at[0]));
        const VF zero = kBits == 4 ? hn::Set(DF(), FromUpperHalf(grid_at[kBits == 4])) : scale;
        const Grid grid{{scale, scale}, {zero, zero}};
        for (int64_t i = 0; i < kUnit; i += PairStep()) {
          StorePair<kStream>(Dequantize<kBits>(LoadCodes<kBits>(in + i * kBits / 8), grid), to + i);
        }
      });
}

// kStream: past the caches where groups are whole units. REQUIRES then: `out` begins a cache line.
template <int kBits, bool kStream, class E>
void DecodeTokens(const CodecPlan& plan, const uint8_t* HWY_RESTRICT codes,
                  const uint16_t* HWY_RESTRICT scales, E* HWY_RESTRICT out) {
  if (const int64_t units = GroupSizes(plan).EqualUnits(); units > 0) {
    return DecodeEqualUnits<kBits, kStream>(plan, units, codes, scales, out);
  }
  const int64_t dim = plan.dim;
  const int64_t scales_each = plan.groups() * (kBits == 4 ? 2 : 1);
  const int64_t heads = plan.tokens * plan.heads;
  for (int64_t head = 0; head < heads; ++head) {
    FetchAhead(codes, dim * kBits / 8);
    DecodeTokenHead<kBits>(plan, codes, scales, out);
    codes += dim * kBits / 8;
    scales += scales_each;
    out += dim;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif
