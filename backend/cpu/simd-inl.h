// Vector helpers shared by the kernels. Included once per instruction set by Highway's
// foreach_target; has no meaning elsewhere.
#if defined(SLUICE_BACKEND_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_BACKEND_CPU_SIMD_INL_H_
#undef SLUICE_BACKEND_CPU_SIMD_INL_H_
#else
#define SLUICE_BACKEND_CPU_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <limits>

#include "backend/cpu/element.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes: pages hold a multiple of 16 tokens.
using DF = hn::CappedTag<float, 16>;
using DU = hn::Rebind<uint32_t, DF>;
using DI = hn::Rebind<int32_t, DF>;
using DH = hn::Rebind<uint16_t, DF>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;

// The two bf16 numbers in each 32-bit lane.
HWY_INLINE VF LowHalf(VU pair) { return hn::BitCast(DF(), hn::ShiftLeft<16>(pair)); }
HWY_INLINE VF HighHalf(VU pair) {
  return hn::BitCast(DF(), hn::And(pair, hn::Set(DU(), 0xffff0000U)));
}

// 2^x, relative error below 3e-7; exactly 1 at 0, exactly 0 below -126, NaN for NaN.
// REQUIRES: x <= 127. Polynomial of Cephes' exp2f (S. Moshier).
HWY_INLINE VF Exp2(VF x) {
  const DF d;
  const VF lowest = hn::Set(d, -126.0F);
  const VF whole = hn::Round(hn::Max(x, lowest));
  const VF r = hn::Sub(x, whole);
  VF p = hn::Set(d, 1.535336188319500e-4F);
  p = hn::MulAdd(p, r, hn::Set(d, 1.339887440266574e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 9.618437357674640e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 5.550332471162809e-2F));
  p = hn::MulAdd(p, r, hn::Set(d, 2.402264791363012e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 6.931472028550421e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0F));
  const hn::Vec<DI> exponent = hn::ShiftLeft<23>(hn::ConvertTo(DI(), whole));
  const VF scaled = hn::BitCast(d, hn::Add(hn::BitCast(DI(), p), exponent));
  return hn::IfThenElse(hn::Lt(x, lowest), hn::Zero(d), scaled);
}

// e^x for x <= 0.
HWY_INLINE VF ExpNegative(VF x) { return Exp2(hn::Mul(x, hn::Set(DF(), 1.44269504088896341F))); }

// The upper halves, rounded to nearest even, NaN kept; one per 32-bit lane.
HWY_INLINE hn::Vec<DH> RoundToBF16(VF v) {
  const DU du;
  const VU bits = hn::BitCast(du, v);
  const VU odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const VU rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7fff)), odd));
  const VU quiet = hn::Set(du, 0x7fc0);
  const VU out = hn::IfThenElse(
      hn::MaskFromVec(hn::BitCast(du, hn::VecFromMask(DF(), hn::IsNaN(v)))), quiet, rounded);
  return hn::DemoteTo(DH(), hn::BitCast(DI(), out));
}

// Stores n floats as elements.
HWY_INLINE void StoreElements(const float* HWY_RESTRICT in, int64_t n, Element element, void* out,
                              int64_t at) {
  const DF d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  if (element == Element::kF32) {
    auto* wide = static_cast<float*>(out) + at;
    for (; i + lanes <= n; i += lanes) hn::StoreU(hn::LoadU(d, in + i), d, wide + i);
    for (; i < n; ++i) wide[i] = in[i];
    return;
  }
  auto* narrow = static_cast<uint16_t*>(out) + at;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(RoundToBF16(hn::LoadU(d, in + i)), DH(), narrow + i);
  for (; i < n; ++i) narrow[i] = FloatToBF16(in[i]);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif
