// The conversions that tests take from the emulation (cuda_emu/small_float.h), by CUDA's own
// headers: for tests that are compiled against the real runtime.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"

namespace cuda_emu {

inline uint16_t FloatToBfloat16(float value) {
  return static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(value)).x;
}
inline float Bfloat16ToFloat(uint16_t code) {
  return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{code}));
}
inline uint16_t FloatToHalf(float value) {
  return static_cast<__half_raw>(__float2half_rn(value)).x;
}
inline float HalfToFloat(uint16_t code) { return __half2float(__half(__half_raw{code})); }

inline constexpr __nv_fp8_interpretation_t kE4M3 = __NV_E4M3;
inline uint8_t FloatToFp8(float value, __nv_fp8_interpretation_t format, bool clamp) {
  return __nv_cvt_float_to_fp8(value, clamp ? __NV_SATFINITE : __NV_NOSAT, format);
}
inline float Fp8ToFloat(uint8_t code, __nv_fp8_interpretation_t format) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, format)));
}

}  // namespace cuda_emu
