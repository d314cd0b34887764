// device.h: PTX instructions as functions, each with its emulated twin. For kernel sources only.
//
// A function here is one instruction (or one and its address conversion) and is named after it.
// Everything is valid from sm_80 on. Warp-wide instructions, marked [warp], are executed by all 32
// lanes together, from one source line.
#pragma once

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/gpu/memory.h"
#include "backend/cuda/gpu/smem.h"

#if !defined(SLUICE_CUDA_EMU) && !defined(__CUDACC__)
#error "backend/cuda/gpu/device.h is for kernel sources"
#endif

namespace sluice::gpu {

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x & 31); }

// x. What is computed from it is computed where it stands: the compiler cannot move it out of a
// loop and hold it in registers. For kernels that have none left.
__device__ __forceinline__ int anew(int x) {
#if !defined(SLUICE_CUDA_EMU)
  asm volatile("" : "+r"(x));
#endif
  return x;
}

#if !defined(SLUICE_CUDA_EMU)
// A generic address of shared memory as the 32-bit one that PTX wants.
__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

// ---- Tensor cores -----------------------------------------------------------------------------

// [warp] d = a b + c: a 16x16 row-major, b 16x8 column-major, c and d 16x8 in f32. With g = lane /
// 4 and t = lane % 4, a lane holds, low half first:
//   a[0] = A[g][2t, 2t+1]   a[1] = A[g+8][2t..]   a[2] = A[g][2t+8..]   a[3] = A[g+8][2t+8..]
//   b[0] = B[2t, 2t+1][g]   b[1] = B[2t+8, 2t+9][g]
//   c[0], c[1] = C[g][2t, 2t+1]   c[2], c[3] = C[g+8][2t, 2t+1]
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2],
                                                  const float (&c)[4] SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::Mma(cuda_emu::MmaType::kBf16, d, a, b, c, site_);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};\n"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
        "f"(c[2]), "f"(c[3]));
#endif
}

// [warp] The same with fp16 operands.
__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2],
                                                 const float (&c)[4] SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::Mma(cuda_emu::MmaType::kF16, d, a, b, c, site_);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};\n"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
        "f"(c[2]), "f"(c[3]));
#endif
}

// [warp] d = a b + c in s32: a 16x32 row-major, b 32x8 column-major, of int8, four to a word:
//   a[0] = A[g][4t..4t+3]   a[1] = A[g+8][4t..]   a[2] = A[g][4t+16..]   a[3] = A[g+8][4t+16..]
//   b[0] = B[4t..4t+3][g]   b[1] = B[4t+16..][g]   c, d as above
__device__ __forceinline__ void mma_m16n8k32_s8(int (&d)[4], const uint32_t (&a)[4],
                                                const uint32_t (&b)[2],
                                                const int (&c)[4] SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::Mma(cuda_emu::MmaType::kS8, d, a, b, c, site_);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};\n"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]), "r"(c[1]),
        "r"(c[2]), "r"(c[3]));
#endif
}

// ---- Shared memory to fragments ----------------------------------------------------------------

// [warp] Loads kCount (1, 2, 4) 8x8 matrices of 16-bit elements. Lane 8 m + r gives the address of
// row r of matrix m: 16 bytes, aligned to 16. A lane gets M[lane / 4][2 (lane % 4), + 1] of each
// matrix; transposed: M[2 (lane % 4), + 1][lane / 4].
template <bool kTransposed, int kCount>
__device__ __forceinline__ void ldmatrix(uint32_t (&r)[kCount], const void* row SLUICE_GPU_SITE) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::Ldmatrix(r, row, kCount, kTransposed, site_);
#else
  const uint32_t address = shared_address(row);
  if constexpr (kCount == 4 && kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else if constexpr (kCount == 4) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else if constexpr (kCount == 2 && kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (kCount == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];\n"
                 : "=r"(r[0])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];\n"
                 : "=r"(r[0])
                 : "r"(address)
                 : "memory");
  }
#endif
}
template <bool kTransposed>
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row SLUICE_GPU_SITE) {
  ldmatrix<kTransposed, 4>(r, row SLUICE_GPU_PASS_SITE);
}
template <bool kTransposed>
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row SLUICE_GPU_SITE) {
  ldmatrix<kTransposed, 2>(r, row SLUICE_GPU_PASS_SITE);
}

// ---- Asynchronous copies, global to shared -----------------------------------------------------

// cp.async.cg: 16 bytes, past L1. Zeros are written where !valid; gmem must be an address even
// then. The bytes are there after cp_async_wait, for other threads after a barrier as well.
__device__ __forceinline__ void cp_async16(void* smem, const void* gmem,
                                           bool valid = true SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::AsyncCopy(smem, gmem, 16, valid ? 16 : 0, site_);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(smem)),
               "l"(gmem), "r"(valid ? 16 : 0)
               : "memory");
#endif
}

// cp.async.ca: 4 or 8 bytes (the .cg form knows 16 only).
template <int kBytes>
__device__ __forceinline__ void cp_async_small(void* smem, const void* gmem,
                                               bool valid = true SLUICE_GPU_SITE) {
  static_assert(kBytes == 4 || kBytes == 8);
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::AsyncCopy(smem, gmem, kBytes, valid ? kBytes : 0, site_);
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(shared_address(smem)),
               "l"(gmem), "n"(kBytes), "r"(valid ? kBytes : 0)
               : "memory");
#endif
}

// Closes this thread's group of copies; an empty group counts.
__device__ __forceinline__ void cp_async_commit() {
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::AsyncCopyCommit();
#else
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most kKeep of this thread's latest groups are under way.
template <int kKeep>
__device__ __forceinline__ void cp_async_wait() {
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::AsyncCopyWait(kKeep);
#else
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kKeep) : "memory");
#endif
}

// ---- Barriers of a part of a block -------------------------------------------------------------

// bar.sync: waits until `threads` threads (a multiple of 32) have met at barrier `id` (1 to 15).
__device__ __forceinline__ void barrier_sync(int id, int threads SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::BlockBarrier(id, threads, site_);
#else
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
#endif
}
// bar.arrive: counts towards the barrier without waiting.
__device__ __forceinline__ void barrier_arrive(int id, int threads SLUICE_GPU_SITE) {
#if defined(SLUICE_CUDA_EMU)
  cuda_emu::BlockArrive(id, threads, site_);
#else
  asm volatile("bar.arrive %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
#endif
}

// ---- Approximate arithmetic --------------------------------------------------------------------

// 2^x; relative error about 2^-22, denormals flushed to zero.
__device__ __forceinline__ float fast_exp2(float x) {
#if defined(SLUICE_CUDA_EMU)
  return cuda_emu::Approximate(exp2f(x));
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
#endif
}
// log2(x); absolute error about 2^-22 near 1.
__device__ __forceinline__ float fast_log2(float x) {
#if defined(SLUICE_CUDA_EMU)
  return cuda_emu::Approximate(log2f(x));
#else
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
#endif
}
// 1 / x; at most one unit in the last place off.
__device__ __forceinline__ float fast_reciprocal(float x) {
#if defined(SLUICE_CUDA_EMU)
  return cuda_emu::Approximate(1.0f / x);
#else
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
#endif
}

// ---- bf16 pairs --------------------------------------------------------------------------------

// Two floats as bf16 in one word, `low` in the low half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  return internal::Recast<uint32_t>(__floats2bfloat162_rn(low, high));
}
__device__ __forceinline__ uint32_t pack_f16(float low, float high) {
  return internal::Recast<uint32_t>(__floats2half2_rn(low, high));
}
// The halves of a word as floats.
__device__ __forceinline__ float bf16_lo(uint32_t word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float bf16_hi(uint32_t word) {
  return __uint_as_float(word & 0xffff0000u);
}

// A hint: brings the line of `p` into L2.
__device__ __forceinline__ void prefetch_l2(const void* p) {
#if defined(SLUICE_CUDA_EMU)
  static_cast<void>(p);
#else
  asm volatile("prefetch.global.L2 [%0];\n" ::"l"(p));
#endif
}

}  // namespace sluice::gpu
