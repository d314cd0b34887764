// CUDA's vector types and dim3, under their own names, for a compiler without a toolkit.
//
// Never together with the real headers: this file claims their include guards, so that a stray
// #include <cuda_runtime.h> or <cublas_v2.h> further down is inert instead of two hundred
// redefinitions. The other order, a real header first, is stopped here.
// Sizes and alignments are compared with a toolkit's by api_probe where one is installed.
#pragma once

#if defined(__VECTOR_TYPES_H__) || defined(__CUDA_RUNTIME_API_H__) || defined(__DRIVER_TYPES_H__)
#error "cuda_emu: a CUDA toolkit header came first; include only backend/cuda/gpu/gpu.h"
#endif
// NOLINTBEGIN(bugprone-reserved-identifier)
#define __VECTOR_TYPES_H__ 1
#define __VECTOR_FUNCTIONS_H__ 1
#define __CUDA_RUNTIME_API_H__ 1
#define __CUDA_RUNTIME_H__ 1
#define __DRIVER_TYPES_H__ 1
#define __CUDA_BF16_H__ 1
#define __CUDA_FP16_H__ 1
#define __CUDA_FP8_H__ 1
// NOLINTEND(bugprone-reserved-identifier)

#define CUDA_EMU_VECTOR_TYPE(T, N)                                \
  struct alignas(2 * sizeof(T)) N##2 {                            \
    T x, y;                                                       \
  };                                                              \
  struct N##3 {                                                   \
    T x, y, z;                                                    \
  };                                                              \
  struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) N##4 {  \
    T x, y, z, w;                                                 \
  };                                                              \
  constexpr N##2 make_##N##2(T x, T y) { return {x, y}; }         \
  constexpr N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; } \
  constexpr N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }

CUDA_EMU_VECTOR_TYPE(signed char, char)
CUDA_EMU_VECTOR_TYPE(unsigned char, uchar)
CUDA_EMU_VECTOR_TYPE(short, short)
CUDA_EMU_VECTOR_TYPE(unsigned short, ushort)
CUDA_EMU_VECTOR_TYPE(int, int)
CUDA_EMU_VECTOR_TYPE(unsigned int, uint)
CUDA_EMU_VECTOR_TYPE(float, float)
CUDA_EMU_VECTOR_TYPE(long long, longlong)
CUDA_EMU_VECTOR_TYPE(unsigned long long, ulonglong)
CUDA_EMU_VECTOR_TYPE(double, double)
#undef CUDA_EMU_VECTOR_TYPE

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int vx = 1, unsigned int vy = 1, unsigned int vz = 1)
      : x(vx), y(vy), z(vz) {}
};
