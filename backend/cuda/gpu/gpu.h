// gpu.h: the only door to the CUDA runtime. Nothing else in this project includes a CUDA header.
//
// Two builds read the sources behind it:
//   real      nvcc and the host compiler, CUDA's own headers and libcudart;
//   emulated  an ordinary C++20 compiler, SLUICE_CUDA_EMU defined, no toolkit: kernels and host
//   code
//             run on the CPU, under sanitizers (tests/cuda_on_cpu).
// Both see the same names: cudaMalloc, cudaStream_t, __nv_bfloat16, dim3, __global__ ...
//
// What kernels must keep to, so that both builds agree:
//   - launch with Launch(), never <<<>>>, from the .cu file that defines the kernel (CUDA 13 gives
//     stubs of kernel templates internal linkage);
//   - inline PTX only in device.h; wide memory accesses through memory.h; shared memory through
//     smem.h;
//   - no __CUDA_ARCH__ branches, textures, managed memory, grid-wide sync, cooperative groups,
//     libcu++, __constant__;
//   - accumulate in float; min and max of two equal types.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#if defined(SLUICE_CUDA_EMU)
#include "cuda_emu/device.h"
#include "cuda_emu/runtime.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#endif

namespace sluice::gpu {

// The limit of sm_80 launches and of every driver.
inline constexpr size_t kMaxKernelParameterBytes = 4096;

// Puts one launch of `kernel` into `stream`. Arguments become the kernel's own parameter types
// before types are erased, so a wrong one does not compile. `name` is what traces, diagnostics and
// modelled costs call the kernel; it has static storage.
// Returns what cudaLaunchKernelExC returns; the kernel itself fails later, at a synchronisation.
template <class... Parameters, class... Arguments>
cudaError_t Launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                   size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "wrong number of arguments");
  static_assert((std::is_trivially_copyable_v<Parameters> && ...),
                "parameters are copied as bytes");
  static_assert((!std::is_reference_v<Parameters> && ...), "parameters are passed by value");
  static_assert((sizeof(Parameters) + ... + 0) <= kMaxKernelParameterBytes);
  std::tuple<Parameters...> values{static_cast<Parameters>(std::forward<Arguments>(arguments))...};
  std::array<void*, sizeof...(Parameters) + 1> addresses{};
  std::apply(
      [&addresses](auto&... value) {
        size_t i = 0;
        ((addresses[i++] = const_cast<void*>(static_cast<const void*>(&value))), ...);
      },
      values);
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::RegisterKernel(name, kernel);
#else
  static_cast<void>(name);
#endif
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), addresses.data());
}

// Lets `kernel` use up to `bytes` of dynamic shared memory; needed above 48 KiB, once per process
// and device, before the first launch.
template <class... Parameters>
cudaError_t AllowSharedBytes(void (*kernel)(Parameters...), size_t bytes) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

// How many blocks of `kernel` fit on one multiprocessor at a time. (The emulation knows threads and
// shared memory, not registers.)
template <class... Parameters>
cudaError_t BlocksPerMultiprocessor(void (*kernel)(Parameters...), int threads, size_t shared_bytes,
                                    int* blocks) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      blocks, reinterpret_cast<const void*>(kernel), threads, shared_bytes);
}

}  // namespace sluice::gpu

// What a device function adds to its parameters, so that the emulation can name the caller's line:
//   __device__ float f(float x SLUICE_GPU_SITE) { return g(x SLUICE_GPU_PASS_SITE); }
// SLUICE_GPU_ONLY_SITE and SLUICE_GPU_PASS_ONLY_SITE are for functions without other parameters.
#if defined(SLUICE_CUDA_EMU)
#define SLUICE_GPU_ONLY_SITE [[maybe_unused]] cuda_emu::Site site_ = cuda_emu::Site::Here()
#define SLUICE_GPU_SITE , SLUICE_GPU_ONLY_SITE
#define SLUICE_GPU_PASS_ONLY_SITE site_
#define SLUICE_GPU_PASS_SITE , site_
#else
#define SLUICE_GPU_ONLY_SITE
#define SLUICE_GPU_SITE
#define SLUICE_GPU_PASS_ONLY_SITE
#define SLUICE_GPU_PASS_SITE
#endif

// Unrolls the loop that follows.
#if defined(__CUDACC__)
#define SLUICE_UNROLL _Pragma("unroll")
#else
#define SLUICE_UNROLL
#endif
