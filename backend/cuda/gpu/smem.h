// smem.h: shared memory of a block.
//
//   SLUICE_DYNAMIC_SMEM(raw);              the launch's dynamic shared memory, unsigned char*
//   SLUICE_SHARED(float[32], sums);        a static shared object named sums
//   SharedCarver carver(raw);              cuts typed arrays out of raw
//   float* scores = carver.Take<float>(n);
//
// The host runs the same Take calls on SharedCarver(nullptr) and asks bytes() what to request.
// In the emulation all of it holds NaN at first, and under ASan a poisoned gap follows each array.
#pragma once

#include "backend/cuda/gpu/gpu.h"

#if defined(SLUICE_CUDA_EMU) && defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLUICE_GPU_ASAN 1
#endif
#endif
#if defined(SLUICE_CUDA_EMU) && defined(__SANITIZE_ADDRESS__)
#define SLUICE_GPU_ASAN 1
#endif
#if defined(SLUICE_GPU_ASAN)
#include <sanitizer/asan_interface.h>
#endif

#if defined(SLUICE_CUDA_EMU)
#define SLUICE_DYNAMIC_SMEM(name) unsigned char* const name = cuda_emu::DynamicShared()
#define SLUICE_SHARED(type, name)                                            \
  static char name##_key_;                                                   \
  std::type_identity_t<type>& name = *static_cast<std::add_pointer_t<type>>( \
      cuda_emu::StaticShared(&name##_key_, sizeof(type), alignof(type)))
#else
#define SLUICE_DYNAMIC_SMEM(name) extern __shared__ __align__(128) unsigned char name[]
#define SLUICE_SHARED(type, name) __shared__ std::type_identity_t<type> name
#endif

namespace sluice::gpu {

class SharedCarver {
 public:
  // Every array starts at a multiple of this: a row of all 32 banks.
  static constexpr size_t kAlignment = 128;

  // base: the block's dynamic shared memory, or null to add up the bytes only.
  __host__ __device__ explicit SharedCarver(unsigned char* base) : base_(base) {}

  // Space for `count` objects, or null where the base is null.
  template <class T>
  __host__ __device__ __forceinline__ T* Take(int count) {
    offset_ = (offset_ + kAlignment - 1) / kAlignment * kAlignment;
    T* const array = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset_);
    offset_ += static_cast<size_t>(count) * sizeof(T);
#if defined(SLUICE_GPU_ASAN)
    if (base_ != nullptr) ASAN_POISON_MEMORY_REGION(base_ + offset_, kAlignment);
    offset_ += kAlignment;
#endif
    return array;
  }

  // Bytes taken so far, gaps included.
  __host__ __device__ size_t bytes() const { return offset_; }

 private:
  unsigned char* base_;
  size_t offset_ = 0;
};

}  // namespace sluice::gpu
