// memory.h: loads and stores of 1 to 16 bytes, with the cache behaviour in the name.
//
// T is any trivially copyable type of 1, 2, 4, 8 or 16 bytes; the address is aligned to sizeof(T),
// whatever alignof(T) says, and the access is one instruction. In the emulation each access is
// checked for alignment and counted per source line: 32-byte sectors in global memory, passes in
// shared memory. Kernels use these for everything wider than 4 bytes and for every access whose
// coalescing or bank conflicts matter.
#pragma once

#include "backend/cuda/gpu/gpu.h"

#if !defined(SLUICE_CUDA_EMU) && !defined(__CUDACC__)
#error "backend/cuda/gpu/memory.h is for kernel sources"
#endif

namespace sluice::gpu {
namespace internal {

template <size_t kBytes>
struct Carrier;
template <>
struct Carrier<1> {
  using Type = unsigned char;
};
template <>
struct Carrier<2> {
  using Type = unsigned short;
};
template <>
struct Carrier<4> {
  using Type = unsigned int;
};
template <>
struct Carrier<8> {
  using Type = uint2;
};
template <>
struct Carrier<16> {
  using Type = uint4;
};

// The bytes of `from` as a `To`.
template <class To, class From>
__device__ __forceinline__ To Recast(const From& from) {
  static_assert(sizeof(To) == sizeof(From) && std::is_trivially_copyable_v<To>);
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

#if defined(SLUICE_CUDA_EMU)
template <class T>
T Load(cuda_emu::Space space, const T* p, cuda_emu::Site site) {
  static_assert(sizeof(typename Carrier<sizeof(T)>::Type) == sizeof(T));
  cuda_emu::NoteAccess(space, p, sizeof(T), sizeof(T), site);
  T value;
  std::memcpy(static_cast<void*>(&value), static_cast<const void*>(p), sizeof(T));
  return value;
}
template <class T>
void Store(cuda_emu::Space space, T* p, const T& value, cuda_emu::Site site) {
  static_assert(sizeof(typename Carrier<sizeof(T)>::Type) == sizeof(T));
  cuda_emu::NoteAccess(space, p, sizeof(T), sizeof(T), site);
  std::memcpy(static_cast<void*>(p), static_cast<const void*>(&value), sizeof(T));
}
#endif

}  // namespace internal

// ld.global: coherent with this thread's own stores and those ordered before by a barrier.
template <class T>
__device__ __forceinline__ T load_global(const T* p SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  return internal::Load(cuda_emu::Space::kGlobalRead, p, site_);
#else
  using C = typename internal::Carrier<sizeof(T)>::Type;
  return internal::Recast<T>(*reinterpret_cast<const C*>(p));
#endif
}

// ld.global.nc: through the read-only path. REQUIRES: nobody writes *p while the kernel runs.
template <class T>
__device__ __forceinline__ T load_global_nc(const T* p SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  return internal::Load(cuda_emu::Space::kGlobalRead, p, site_);
#else
  using C = typename internal::Carrier<sizeof(T)>::Type;
  return internal::Recast<T>(__ldg(reinterpret_cast<const C*>(p)));
#endif
}

// ld.global.cs: read once, first to be evicted. Also for pinned host memory. May be written by
// others between launches.
template <class T>
__device__ __forceinline__ T load_global_streaming(const T* p SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  return internal::Load(cuda_emu::Space::kGlobalRead, p, site_);
#else
  using C = typename internal::Carrier<sizeof(T)>::Type;
  return internal::Recast<T>(__ldcs(reinterpret_cast<const C*>(p)));
#endif
}

// st.global.
template <class T>
__device__ __forceinline__ void store_global(T* p,
                                             const std::type_identity_t<T>& value SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  internal::Store(cuda_emu::Space::kGlobalWrite, p, value, site_);
#else
  using C = typename internal::Carrier<sizeof(T)>::Type;
  *reinterpret_cast<C*>(p) = internal::Recast<C>(value);
#endif
}

// ld.volatile.global, st.volatile.global: like load_global and store_global, but in the order in
// which they stand: the compiler does not move later loads up, which would hold all of them in
// registers at once.
__device__ __forceinline__ float2 load_global_in_order(const float2* p SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  return internal::Load(cuda_emu::Space::kGlobalRead, p, site_);
#else
  float2 value;
  asm volatile("ld.volatile.global.v2.f32 {%0, %1}, [%2];\n"
               : "=f"(value.x), "=f"(value.y)
               : "l"(p)
               : "memory");
  return value;
#endif
}
__device__ __forceinline__ void store_global_in_order(float2* p, float2 value SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  internal::Store(cuda_emu::Space::kGlobalWrite, p, value, site_);
#else
  asm volatile("st.volatile.global.v2.f32 [%0], {%1, %2};\n" ::"l"(p), "f"(value.x), "f"(value.y)
               : "memory");
#endif
}

// st.global.cs: written once, first to be evicted.
template <class T>
__device__ __forceinline__ void store_global_streaming(
    T* p, const std::type_identity_t<T>& value SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  internal::Store(cuda_emu::Space::kGlobalWrite, p, value, site_);
#else
  using C = typename internal::Carrier<sizeof(T)>::Type;
  __stcs(reinterpret_cast<C*>(p), internal::Recast<C>(value));
#endif
}

// ld.shared.
template <class T>
__device__ __forceinline__ T load_shared(const T* p SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  return internal::Load(cuda_emu::Space::kSharedRead, p, site_);
#else
  using C = typename internal::Carrier<sizeof(T)>::Type;
  return internal::Recast<T>(*reinterpret_cast<const C*>(p));
#endif
}

// st.shared.
template <class T>
__device__ __forceinline__ void store_shared(T* p,
                                             const std::type_identity_t<T>& value SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  internal::Store(cuda_emu::Space::kSharedWrite, p, value, site_);
#else
  using C = typename internal::Carrier<sizeof(T)>::Type;
  *reinterpret_cast<C*>(p) = internal::Recast<C>(value);
#endif
}

// 16 bytes at an address of any type.
__device__ __forceinline__ uint4 lds128(const void* p SLUICE_GPU_SITE) {
  return load_shared(static_cast<const uint4*>(p) SLUICE_GPU_PASS_SITE);
}
__device__ __forceinline__ void sts128(void* p, uint4 value SLUICE_GPU_SITE) {
  store_shared(static_cast<uint4*>(p), value SLUICE_GPU_PASS_SITE);
}
// Read-only path: see load_global_nc.
__device__ __forceinline__ uint4 ldg128(const void* p SLUICE_GPU_SITE) {
  return load_global_nc(static_cast<const uint4*>(p) SLUICE_GPU_PASS_SITE);
}
__device__ __forceinline__ void stg128(void* p, uint4 value SLUICE_GPU_SITE) {
  store_global(static_cast<uint4*>(p), value SLUICE_GPU_PASS_SITE);
}

}  // namespace sluice::gpu
