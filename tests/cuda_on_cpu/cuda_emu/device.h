// The device side of CUDA C++ for an ordinary compiler: qualifiers and built-in variables. Includes
// the functions: synchronisation, warp operations, atomics, intrinsics, instructions.
#pragma once

#include <algorithm>

#include "cuda_emu/atomic.h"
#include "cuda_emu/instruction.h"
#include "cuda_emu/intrinsic.h"
#include "cuda_emu/small_float.h"
#include "cuda_emu/types.h"
#include "cuda_emu/warp.h"

// Not defined on purpose: __noinline__, which libstdc++ 12 uses inside an attribute.
// NOLINTBEGIN(bugprone-reserved-identifier)
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// A literal `__shared__ float x[32];` is one object per OS thread, hence per running block.
// Sanitizers put no red zone around it: kernels use SLUICE_SHARED (backend/cuda/gpu/smem.h).
#define __shared__ static thread_local
// NOLINTEND(bugprone-reserved-identifier)

// Real variables, no macros; written at each switch from one CUDA thread to the next.
inline constinit thread_local uint3 threadIdx{};
inline constinit thread_local uint3 blockIdx{};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};
inline constexpr int warpSize = 32;

using std::max;
using std::min;
