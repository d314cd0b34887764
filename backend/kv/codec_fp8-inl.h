// fp8 (E4M3) of the KV codecs. Included once per instruction set by Highway's foreach_target; has
// no meaning elsewhere.
//
// bf16 and E4M3 differ in the width of exponent and mantissa only, and a group's scale is a power
// of two: all of it is done on the bits, in 16-bit lanes. Floats are first cut to 16 bits, with a
// one in the last bit if anything was cut off ("round to odd"), so that they are rounded once.
#if defined(SLUICE_BACKEND_KV_CODEC_FP8_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_BACKEND_KV_CODEC_FP8_INL_H_
#undef SLUICE_BACKEND_KV_CODEC_FP8_INL_H_
#else
#define SLUICE_BACKEND_KV_CODEC_FP8_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <numeric>

#include "backend/kv/codec_kernels.h"
#include "backend/kv/codec_load-inl.h"
#include "backend/kv/codec_scale.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr int kFp8Rebias = 120;  // bf16's exponent bias less E4M3's
using DHSigned = hn::RebindToSigned<DH>;
using DByte = hn::Rebind<uint8_t, DH>;

// Codes of numbers below E4M3's least with a leading one: multiples of 2^-9 of the scale.
template <class VS>
HWY_INLINE VH FixedCode(VH magnitude, VS shifted) {
  const DH d;
  const DHSigned ds;
  const VH one = hn::Set(d, 1);
  const VH significand = hn::Or(hn::And(magnitude, hn::Set(d, 0x7f)), hn::Set(d, 0x80));
  // Numbers without a leading one are below 2^-126: zero.
  const VH x = hn::IfThenElseZero(
      hn::RebindMask(d, hn::Gt(hn::BitCast(ds, magnitude), hn::Set(ds, 0x7f))), significand);
  const auto places = hn::Min(hn::Sub(hn::Set(ds, 5), hn::ShiftRight<7>(shifted)), hn::Set(ds, 10));
  const VH shift = hn::BitCast(d, hn::Max(places, hn::Set(ds, 5)));
  const VH below_half = hn::Set(d, 0x7fff) >> hn::Sub(hn::Set(d, 16), shift);
  return hn::Add(hn::Add(x, below_half), hn::And(x >> shift, one)) >> shift;
}

// `offset`: (exponent of the scale + kFp8Rebias) << 7.
HWY_INLINE void EncodeFp8Step(const uint16_t* HWY_RESTRICT in, VH offset,
                              uint8_t* HWY_RESTRICT out) {
  const DH d;
  const DHSigned ds;
  const VH bits = hn::LoadU(d, in);
  const VH magnitude = hn::And(bits, hn::Set(d, 0x7fff));
  // Exponent and mantissa with E4M3's bias; below 1 << 7 it takes E4M3's fixed point.
  const auto shifted = hn::BitCast(ds, hn::Sub(magnitude, offset));
  const auto fixed = hn::Lt(shifted, hn::Set(ds, 0x80));
  const VH sign = hn::And(hn::ShiftRight<8>(bits), hn::Set(d, 0x80));
  const VH normal = hn::BitCast(d, shifted);
  const VH odd = hn::And(hn::ShiftRight<4>(normal), hn::Set(d, 1));
  VH code = hn::ShiftRight<4>(hn::Add(hn::Add(normal, hn::Set(d, 7)), odd));
  if (HWY_UNLIKELY(!hn::AllFalse(ds, fixed))) {
    code = hn::IfThenElse(hn::RebindMask(d, fixed), FixedCode(magnitude, shifted), code);
  }
  hn::StoreU(hn::TruncateTo(DByte(), hn::Or(code, sign)), DByte(), out);
}

// bf16 of 0 to 7 times 2^-9, E4M3's numbers without a leading one. REQUIRES: magnitude < 8 where it
// matters.
HWY_INLINE VH FixedFp8(VH magnitude) {
  const DH d;
#if HWY_TARGET == HWY_SCALAR
  static constexpr uint16_t kFixed[8] = {0x0000, 0x3b00, 0x3b80, 0x3bc0,
                                         0x3c00, 0x3c20, 0x3c40, 0x3c60};
  return hn::Set(d, kFixed[hn::GetLane(magnitude) & 7]);
#else
  // Lower bytes, then upper bytes.
  alignas(16) static constexpr uint8_t kFixed[16] = {0x00, 0x00, 0x80, 0xc0, 0x00, 0x20,
                                                     0x40, 0x60, 0x00, 0x3b, 0x3b, 0x3b,
                                                     0x3c, 0x3c, 0x3c, 0x3c};
  const hn::Repartition<uint8_t, DH> bytes;
  const VH index = hn::Or(hn::Or(magnitude, hn::ShiftLeft<8>(magnitude)), hn::Set(d, 0x0800));
  return hn::BitCast(
      d, hn::TableLookupBytes(hn::LoadDup128(bytes, kFixed), hn::BitCast(bytes, index)));
#endif
}

// `raise`: exponent of the scale << 7.
template <bool kStream = false>
HWY_INLINE void DecodeFp8Step(const uint8_t* HWY_RESTRICT in, VH raise,
                              uint16_t* HWY_RESTRICT out) {
  const DH d;
  const DHSigned ds;
  const VH code = hn::PromoteTo(d, hn::LoadU(DByte(), in));
  const VH magnitude = hn::And(code, hn::Set(d, 0x7f));
  const VH normal = hn::Add(hn::ShiftLeft<4>(magnitude), hn::Set(d, kFp8Rebias << 7));
  const auto is_fixed = hn::RebindMask(d, hn::Lt(hn::BitCast(ds, magnitude), hn::Set(ds, 8)));
  const VH number = hn::Add(hn::IfThenElse(is_fixed, FixedFp8(magnitude), normal), raise);
  const VH value = hn::IfThenZeroElse(hn::Eq(magnitude, hn::Zero(d)), number);
  const VH sign = hn::ShiftLeft<8>(hn::And(code, hn::Set(d, 0x80)));
  StoreVector<kStream>(hn::Or(value, sign), d, out);
}

HWY_INLINE void EncodeFp8Run(const uint16_t* HWY_RESTRICT in, int64_t n, VH offset,
                             uint8_t* HWY_RESTRICT out) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DH()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) EncodeFp8Step(in + i, offset, out + i);
  if (i == n) return;
  if (n >= lanes) return EncodeFp8Step(in + n - lanes, offset, out + n - lanes);
  uint16_t numbers[kMostPairStep] = {};
  uint8_t codes[kMostPairStep];
  std::copy_n(in + i, n - i, numbers);
  EncodeFp8Step(numbers, offset, codes);
  std::copy_n(codes, n - i, out + i);
}

HWY_INLINE void DecodeFp8Run(const uint8_t* HWY_RESTRICT in, int64_t n, VH raise,
                             uint16_t* HWY_RESTRICT out) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DH()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) DecodeFp8Step(in + i, raise, out + i);
  if (i == n) return;
  if (n >= lanes) return DecodeFp8Step(in + n - lanes, raise, out + n - lanes);
  uint8_t codes[kMostPairStep] = {};
  uint16_t numbers[kMostPairStep];
  std::copy_n(in + i, n - i, codes);
  DecodeFp8Step(codes, raise, numbers);
  std::copy_n(numbers, n - i, out + i);
}

HWY_INLINE const uint16_t* CutTo16Bits(const uint16_t* in, int64_t /*n*/, uint16_t* /*buffer*/) {
  return in;
}
HWY_INLINE const uint16_t* CutTo16Bits(const float* HWY_RESTRICT in, int64_t n,
                                       uint16_t* HWY_RESTRICT buffer) {
  const DU du;
  const hn::Rebind<uint16_t, DU> half;
  const auto lanes = static_cast<int64_t>(hn::Lanes(du));
  const VU lower = hn::Set(du, 0xffff);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const VU bits = hn::BitCast(du, hn::LoadU(DF(), in + i));
    const VU rest = hn::Min(hn::And(bits, lower), hn::Set(du, 1));
    hn::StoreU(hn::TruncateTo(half, hn::Or(hn::ShiftRight<16>(bits), rest)), half, buffer + i);
  }
  for (; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(in[i]);
    buffer[i] = static_cast<uint16_t>((bits >> 16) | ((bits & 0xffffU) != 0 ? 1U : 0U));
  }
  return buffer;
}

HWY_INLINE void Widen(const uint16_t* HWY_RESTRICT in, int64_t n, float* HWY_RESTRICT out) {
  const DU du;
  const hn::Rebind<uint16_t, DU> half;
  const auto lanes = static_cast<int64_t>(hn::Lanes(du));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const VU bits = hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(half, in + i)));
    hn::StoreU(hn::BitCast(DF(), bits), DF(), out + i);
  }
  for (; i < n; ++i) out[i] = FromUpperHalf(in[i]);
}

// Scales of a few groups, as EncodeFp8Step wants them and as they are stored.
struct Fp8Batch {
  int64_t count = 0;
  int64_t total = 0;  // numbers
  const int64_t* sizes = nullptr;
  alignas(64) uint32_t offset[kMostBatch];
  alignas(64) uint32_t scale[kMostBatch];
};

// Measures the groups of a batch and finds their scales. False if a number is beyond the limit.
template <bool kWhole>
HWY_INLINE bool MeasureFp8(const uint16_t* HWY_RESTRICT in, Fp8Batch& batch) {
  const DU du;
  VU largest = hn::Zero(du);
  for (int64_t j = 0; j < batch.count; ++j) {
    largest = ReplaceLane(largest, j, LargestBits<kWhole>(in, batch.sizes[j]));
    in += batch.sizes[j];
  }
  if (!WithinLimit(largest)) return false;
  // The largest is to stay within 448 = 1.75 * 2^8: its exponent less 8, or 7 if its mantissa is
  // above 1.75 (what is added then carries into the exponent).
  const VU top = hn::ShiftRight<16>(largest);
  const VU carried = hn::ShiftRight<7>(hn::Add(top, hn::Set(du, 0x1f)));
  const VU exponent = hn::Max(carried, hn::Set(du, kKvLeastFp8Exponent + 8 + 127));
  hn::Store(hn::ShiftLeft<7>(hn::Sub(exponent, hn::Set(du, 8 + 127 - kFp8Rebias))), du,
            batch.offset);
  hn::Store(hn::ShiftLeft<7>(hn::Sub(exponent, hn::Set(du, 8))), du, batch.scale);
  return true;
}

// Codes of a batch's groups of whole units.
HWY_INLINE void EncodeFp8Units(const Fp8Batch& batch, const uint16_t* HWY_RESTRICT in,
                               uint8_t* HWY_RESTRICT codes) {
  const DH d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  uint16_t offsets[kMostUnits];
  int64_t units = 0;
  for (int64_t j = 0; j < batch.count; ++j) {
    for (int64_t i = 0; i < batch.sizes[j]; i += kUnit) {
      offsets[units++] = static_cast<uint16_t>(batch.offset[j]);
    }
  }
  for (int64_t u = 0; u < units; ++u) {
    const VH offset = hn::Set(d, offsets[u]);
    hwy::Prefetch(in + u * kUnit + batch.total);  // of the next batch
    for (int64_t i = u * kUnit; i < (u + 1) * kUnit; i += lanes) {
      EncodeFp8Step(in + i, offset, codes + i);
    }
  }
}

HWY_INLINE void EncodeFp8Groups(const Fp8Batch& batch, const uint16_t* HWY_RESTRICT in,
                                uint8_t* HWY_RESTRICT codes) {
  for (int64_t j = 0; j < batch.count; ++j) {
    const VH offset = hn::Set(DH(), static_cast<uint16_t>(batch.offset[j]));
    EncodeFp8Run(in, batch.sizes[j], offset, codes);
    in += batch.sizes[j];
    codes += batch.sizes[j];
  }
}

template <bool kWhole, class E>
bool EncodeFp8Batches(const CodecPlan& plan, const E* HWY_RESTRICT in, uint8_t* HWY_RESTRICT codes,
                      uint16_t* HWY_RESTRICT scales) {
  const int64_t groups = plan.token_groups();
  GroupSizes sizes(plan);
  uint16_t buffer[kMostBatch * kMostGroup];
  Fp8Batch batch;
  for (int64_t first = 0; first < groups; first += BatchGroups()) {
    batch.count = std::min(BatchGroups(), groups - first);
    batch.sizes = sizes.Next();
    batch.total = std::accumulate(batch.sizes, batch.sizes + batch.count, int64_t{0});
    const uint16_t* numbers = CutTo16Bits(in, batch.total, buffer);
    if (!MeasureFp8<kWhole>(numbers, batch)) return false;
    for (int64_t j = 0; j < batch.count; ++j) *scales++ = static_cast<uint16_t>(batch.scale[j]);
    if constexpr (kWhole) {
      EncodeFp8Units(batch, numbers, codes);
    } else {
      EncodeFp8Groups(batch, numbers, codes);
    }
    in += batch.total;
    codes += batch.total;
  }
  return true;
}

template <class E>
bool EncodeFp8(const CodecPlan& plan, const E* in, uint8_t* codes, uint16_t* scales) {
  return GroupSizes(plan).InUnits() ? EncodeFp8Batches<true>(plan, in, codes, scales)
                                    : EncodeFp8Batches<false>(plan, in, codes, scales);
}

// What is added to a number's exponent, from a stored scale.
HWY_INLINE VH Fp8Raise(uint16_t scale) {
  return hn::Set(DH(), static_cast<uint16_t>((scale & 0x7f80U) - (127U << 7)));
}

// One head of one token.
template <class E>
HWY_INLINE void DecodeFp8Head(const CodecPlan& plan, const uint8_t* HWY_RESTRICT codes,
                              const uint16_t* HWY_RESTRICT scales, E* HWY_RESTRICT out) {
  const int64_t dim = plan.dim;
  const int64_t group = plan.group;
  for (int64_t start = 0; start < dim; start += group) {
    const int64_t n = std::min(group, dim - start);
    const VH raise = Fp8Raise(*scales++);
    if constexpr (sizeof(E) == 2) {
      DecodeFp8Run(codes, n, raise, out);
    } else {
      uint16_t buffer[kMostGroup];
      DecodeFp8Run(codes, n, raise, buffer);
      Widen(buffer, n, out);
    }
    out += n;
    codes += n;
  }
}

// kStream: past the caches where groups are whole units of bf16 numbers. REQUIRES then: `out`
// begins a cache line.
template <bool kStream, class E>
void DecodeFp8(const CodecPlan& plan, const uint8_t* HWY_RESTRICT codes,
               const uint16_t* HWY_RESTRICT scales, E* HWY_RESTRICT out) {
  if constexpr (sizeof(E) == 2) {
    if (const int64_t units = GroupSizes(plan).EqualUnits(); units > 0) {
      const auto lanes = static_cast<int64_t>(hn::Lanes(DH()));
      return ForEqualUnits<8, 1>(plan.token_groups(), units, codes, scales, out,
                                 [=](const uint16_t* scale, const uint8_t* in, E* to) HWY_ATTR {
                                   const VH raise = Fp8Raise(*scale);
                                   for (int64_t i = 0; i < kUnit; i += lanes) {
                                     DecodeFp8Step<kStream>(in + i, raise, to + i);
                                   }
                                 });
    }
  }
  const int64_t dim = plan.dim;
  const int64_t groups = plan.groups();
  const int64_t heads = plan.tokens * plan.heads;
  for (int64_t head = 0; head < heads; ++head) {
    FetchAhead(codes, dim);
    DecodeFp8Head(plan, codes, scales, out);
    codes += dim;
    scales += groups;
    out += dim;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif
