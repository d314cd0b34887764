// Vector helpers the KV codecs share. Included once per instruction set by Highway's
// foreach_target; has no meaning elsewhere.
#if defined(SLUICE_BACKEND_KV_CODEC_LOAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_BACKEND_KV_CODEC_LOAD_INL_H_
#undef SLUICE_BACKEND_KV_CODEC_LOAD_INL_H_
#else
#define SLUICE_BACKEND_KV_CODEC_LOAD_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>

#include "backend/kv/codec_scale.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, 16>;
using DU = hn::Rebind<uint32_t, DF>;
using DI = hn::Rebind<int32_t, DF>;
using DH = hn::CappedTag<uint16_t, 32>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;
using VH = hn::Vec<DH>;

inline constexpr int64_t kMostPairStep = 32;
inline constexpr int64_t kMostGroup = 256;
// Groups made of whole units are gone through unit by unit, without a loop per group: kUnit is a
// multiple of what a vector holds.
inline constexpr int64_t kUnit = 32;

// Groups whose scales are computed side by side: one per lane.
inline constexpr int64_t kMostBatch = 16;
inline constexpr int64_t kMostUnits = kMostBatch * kMostGroup / kUnit;
HWY_INLINE int64_t BatchGroups() { return static_cast<int64_t>(hn::Lanes(DF())); }

// Numbers of a vector of pairs.
HWY_INLINE int64_t PairStep() { return 2 * static_cast<int64_t>(hn::Lanes(DF())); }

// The sizes of the groups of one token after the other, a batch at a time.
class GroupSizes {
 public:
  explicit GroupSizes(const CodecPlan& plan) : dim_(plan.dim), group_(plan.group) {
    std::fill_n(sizes_, kMostBatch, std::min(group_, dim_));
  }
  // Those of the next batch; valid until the next call.
  HWY_INLINE const int64_t* Next() {
    if (group_ >= dim_ || dim_ % group_ == 0) return sizes_;
    for (int64_t j = 0; j < BatchGroups(); ++j) {
      sizes_[j] = std::min(group_, dim_ - at_);
      at_ = at_ + sizes_[j] == dim_ ? 0 : at_ + sizes_[j];
    }
    return sizes_;
  }
  bool InUnits() const { return dim_ % kUnit == 0 && group_ % kUnit == 0; }
  // Units of every group if all have as many; else 0.
  int64_t EqualUnits() const {
    const int64_t size = std::min(group_, dim_);
    return InUnits() && dim_ % size == 0 ? size / kUnit : 0;
  }

 private:
  int64_t dim_;
  int64_t group_;
  int64_t at_ = 0;
  int64_t sizes_[kMostBatch];
};

// Numbers with even and with odd places.
struct Pair {
  VF even;
  VF odd;
};

HWY_INLINE float ToFloat(float x) { return x; }
HWY_INLINE float ToFloat(uint16_t x) { return FromUpperHalf(x); }

HWY_INLINE Pair LoadPair(const uint16_t* in) {
  const DU du;
  const VU both = hn::LoadU(du, reinterpret_cast<const uint32_t*>(in));
  return {hn::BitCast(DF(), hn::ShiftLeft<16>(both)),
          hn::BitCast(DF(), hn::And(both, hn::Set(du, 0xffff0000U)))};
}
HWY_INLINE Pair LoadPair(const float* in) {
  Pair x;
  hn::LoadInterleaved2(DF(), in, x.even, x.odd);
  return x;
}

// kStream: past the caches. REQUIRES then: `out` is aligned to a vector.
template <bool kStream, class D>
HWY_INLINE void StoreVector(hn::Vec<D> v, D d, hn::TFromD<D>* out) {
  if constexpr (kStream) {
    hn::Stream(v, d, out);
  } else {
    hn::StoreU(v, d, out);
  }
}

// Codes are fetched this far ahead of their use, in bytes.
inline constexpr int64_t kFetchAhead = 2048;

// Fetches what is decoded kFetchAhead after these codes.
HWY_INLINE void FetchAhead(const uint8_t* codes, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) hwy::Prefetch(codes + kFetchAhead + i);
}

// Calls decode(scales, codes, out) for each unit of `groups` groups of kUnits units (0: `units`),
// which have kScales scales and kUnit * kBits / 8 bytes of codes per unit.
template <int kBits, int64_t kScales, int64_t kUnits, class E, class Fn>
HWY_INLINE void ForUnits(int64_t groups, int64_t units, const uint8_t* HWY_RESTRICT codes,
                         const uint16_t* HWY_RESTRICT scales, E* HWY_RESTRICT out,
                         const Fn& decode) {
  constexpr int64_t kBytes = kUnit * kBits / 8;
  const int64_t each = kUnits > 0 ? kUnits : units;
  for (int64_t g = 0; g < groups; ++g, scales += kScales) {
    for (int64_t u = 0; u < each; ++u, codes += kBytes, out += kUnit) {
      if (kUnits == 0 || u * kBytes % 64 == 0) hwy::Prefetch(codes + kFetchAhead);
      decode(scales, codes, out);
    }
  }
}
// The same with the sizes heads have known to the compiler.
template <int kBits, int64_t kScales, class E, class Fn>
HWY_INLINE void ForEqualUnits(int64_t groups, int64_t units, const uint8_t* codes,
                              const uint16_t* scales, E* out, const Fn& decode) {
  if (units == 2) {
    ForUnits<kBits, kScales, 2>(groups, units, codes, scales, out, decode);
  } else if (units == 4) {
    ForUnits<kBits, kScales, 4>(groups, units, codes, scales, out, decode);
  } else {
    ForUnits<kBits, kScales, 0>(groups, units, codes, scales, out, decode);
  }
}

// Stores pairs whose lower halves do not matter.
template <bool kStream>
HWY_INLINE void StoreUpperHalves(VU even, VU odd, uint16_t* out) {
  const DU du;
  const VU both = hn::Or(hn::ShiftRight<16>(even), hn::And(odd, hn::Set(du, 0xffff0000U)));
  StoreVector<kStream>(both, du, reinterpret_cast<uint32_t*>(out));
}
// Stores pairs that are bf16 numbers.
HWY_INLINE void StoreExactPair(const Pair& x, uint16_t* out) {
  StoreUpperHalves<false>(hn::BitCast(DU(), x.even), hn::BitCast(DU(), x.odd), out);
}
// Rounds to nearest even. REQUIRES: not NaN (which only damaged bytes decode to).
HWY_INLINE VU RoundedBits(VF x) {
  const DU du;
  const VU bits = hn::BitCast(du, x);
  const VU odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  return hn::Add(hn::Add(bits, hn::Set(du, 0x7fff)), odd);
}
template <bool kStream = false>
HWY_INLINE void StorePair(const Pair& x, uint16_t* out) {
  StoreUpperHalves<kStream>(RoundedBits(x.even), RoundedBits(x.odd), out);
}
// Never past the caches: floats go through a few vectors that are put together first.
template <bool kStream = false>
HWY_INLINE void StorePair(const Pair& x, float* out) {
  hn::StoreInterleaved2(x.even, x.odd, DF(), out);
}

HWY_INLINE VU MagnitudeBits(VF x) {
  return hn::And(hn::BitCast(DU(), x), hn::Set(DU(), 0x7fffffffU));
}

// The functions of codec_scale.h, lane by lane.
HWY_INLINE VF FloorLanes(VF x) {
  const DU du;
  const VU bits = hn::BitCast(du, x);
  const VU sign = hn::BitCast(du, hn::ShiftRight<31>(hn::BitCast(DI(), x)));
  const VU up = hn::Add(bits, hn::And(sign, hn::Set(du, 0xffff)));
  return hn::BitCast(DF(), hn::And(up, hn::Set(du, 0xffff0000U)));
}
HWY_INLINE VF ScaleLanes(VF range, int32_t top) {
  const DF d;
  const DU du;
  const VF share = hn::Mul(range, hn::Set(d, 1.0F / static_cast<float>(top)));
  const VU up = hn::Add(hn::BitCast(du, share), hn::Set(du, 0xffff));
  return hn::Max(hn::BitCast(d, hn::And(up, hn::Set(du, 0xffff0000U))), hn::Set(d, kKvLeastScale));
}

// Bits, as a float, of the largest magnitude, in every lane. An infinity or NaN gives more than any
// number does. kWhole: n is a multiple of kUnit.
template <bool kWhole>
HWY_INLINE VU LargestBits(const uint16_t* HWY_RESTRICT in, int64_t n) {
  const DH dh;
  const DU du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(dh));
  const VH mask = hn::Set(dh, 0x7fff);
  VH most = hn::Zero(dh);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) most = hn::Max(most, hn::And(hn::LoadU(dh, in + i), mask));
  if (!kWhole && i < n && n >= lanes) {
    most = hn::Max(most, hn::And(hn::LoadU(dh, in + n - lanes), mask));
    i = n;
  }
#if HWY_TARGET == HWY_SCALAR
  VU largest = hn::ShiftLeft<16>(hn::Set(du, hn::GetLane(most)));
#else
  // Two to a 32-bit lane: the reduction of those is at home on every instruction set.
  const VU pairs = hn::BitCast(du, most);
  const VU both = hn::Max(hn::ShiftLeft<16>(pairs), hn::And(pairs, hn::Set(du, 0xffff0000U)));
  VU largest = hn::MaxOfLanes(du, both);
#endif
  if (!kWhole && i < n) {
    uint16_t rest[kMostPairStep] = {};
    std::copy_n(in + i, n - i, rest);
    uint32_t top = 0;
    for (const uint16_t bits : rest) top = std::max<uint32_t>(top, bits & 0x7fffU);
    largest = hn::Max(largest, hn::Set(du, top << 16));
  }
  return largest;
}
template <bool kWhole>
HWY_INLINE VU LargestBits(const float* HWY_RESTRICT in, int64_t n) {
  const DU du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(du));
  VU most = hn::Zero(du);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) most = hn::Max(most, MagnitudeBits(hn::LoadU(DF(), in + i)));
  if (!kWhole && i < n && n >= lanes) {
    most = hn::Max(most, MagnitudeBits(hn::LoadU(DF(), in + n - lanes)));
    i = n;
  }
  VU largest = hn::MaxOfLanes(du, most);
  if (!kWhole && i < n) {
    float rest[kMostPairStep] = {};
    std::copy_n(in + i, n - i, rest);
    uint32_t top = 0;
    for (const float x : rest) top = std::max(top, std::bit_cast<uint32_t>(x) & 0x7fffffffU);
    largest = hn::Max(largest, hn::Set(du, top));
  }
  return largest;
}

// `lanes` with lane `at` from `value`.
template <class V>
HWY_INLINE V ReplaceLane(V lanes, int64_t at, V value) {
  const DU du;
  const auto here = hn::Eq(hn::Iota(du, 0), hn::Set(du, static_cast<uint32_t>(at)));
  const hn::DFromV<V> d;
  return hn::IfThenElse(hn::RebindMask(d, here), value, lanes);
}

// Whether all are magnitudes the codecs take.
HWY_INLINE bool WithinLimit(VU largest) {
  return hn::GetLane(hn::MaxOfLanes(DU(), largest)) <= kCodecLimitBits;
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif
