// Memory and arithmetic intrinsics under their CUDA names.
//
// Approximate ones (__expf, rsqrtf ...) are computed exactly here, then moved by up to
// Config::approximation_ulps units in the last place, so that a test shows its tolerances hold for
// a device that rounds differently.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "cuda_emu/access.h"
#include "cuda_emu/site.h"

namespace cuda_emu {

// Zero: approximations are exact.
inline int approximation_ulps = 0;
// `value` moved by a number of units in the last place that depends on its bits.
float Perturb(float value);
inline float Approximate(float value) {
  return __builtin_expect(approximation_ulps == 0, 1) ? value : Perturb(value);
}

}  // namespace cuda_emu

// NOLINTBEGIN(bugprone-reserved-identifier)
template <class T>
T __ldg(const T* p, cuda_emu::Site site = cuda_emu::Site::Here()) {
  cuda_emu::NoteAccess(cuda_emu::Space::kGlobalRead, p, sizeof(T), alignof(T), site);
  return *p;
}
template <class T>
T __ldcs(const T* p, cuda_emu::Site site = cuda_emu::Site::Here()) {
  return __ldg(p, site);
}
template <class T>
T __ldcg(const T* p, cuda_emu::Site site = cuda_emu::Site::Here()) {
  return __ldg(p, site);
}
template <class T>
void __stcs(T* p, T value, cuda_emu::Site site = cuda_emu::Site::Here()) {
  cuda_emu::NoteAccess(cuda_emu::Space::kGlobalWrite, p, sizeof(T), alignof(T), site);
  *p = value;
}

inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v)); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline unsigned __brev(unsigned v) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (v >> i & 1u) << (31 - i);
  return r;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  unsigned r = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned which = selector >> (4 * i) & 7u;
    r |= static_cast<unsigned>(bytes >> (8 * which) & 0xffu) << (8 * i);
  }
  return r;
}
inline int __float2int_rn(float v) { return static_cast<int>(std::lrint(v)); }

inline float __expf(float v) { return cuda_emu::Approximate(std::exp(v)); }
inline float __exp2f(float v) { return cuda_emu::Approximate(std::exp2(v)); }
inline float __logf(float v) { return cuda_emu::Approximate(std::log(v)); }
inline float __log2f(float v) { return cuda_emu::Approximate(std::log2(v)); }
inline float __fdividef(float a, float b) { return cuda_emu::Approximate(a / b); }
inline float rsqrtf(float v) { return cuda_emu::Approximate(1.0f / std::sqrt(v)); }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }
// NOLINTEND(bugprone-reserved-identifier)
