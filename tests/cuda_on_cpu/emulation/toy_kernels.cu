#include "tests/cuda_on_cpu/emulation/toy_kernels.h"

#include "backend/cuda/gpu/device.h"

namespace sluice::toy {
namespace {

using gpu::Launch;

__global__ void WarpOperationsKernel(const int* in, int* out, unsigned mask, int width,
                                     int amount) {
  const int lane = gpu::lane_id();
  if ((mask >> lane & 1) == 0) return;
  const int v = in[lane];
  out[0 * 32 + lane] = __shfl_sync(mask, v, amount, width);
  out[1 * 32 + lane] = __shfl_xor_sync(mask, v, amount, width);
  out[2 * 32 + lane] = __shfl_up_sync(mask, v, static_cast<unsigned>(amount), width);
  out[3 * 32 + lane] = __shfl_down_sync(mask, v, static_cast<unsigned>(amount), width);
  out[4 * 32 + lane] = static_cast<int>(__ballot_sync(mask, v & 1));
  out[5 * 32 + lane] = __any_sync(mask, v > 90) + 2 * __all_sync(mask, v > 10);
  out[6 * 32 + lane] = static_cast<int>(__match_any_sync(mask, static_cast<unsigned>(v % 5)));
  out[7 * 32 + lane] = __reduce_add_sync(mask, v);
  out[8 * 32 + lane] = __reduce_max_sync(mask, v);
  out[9 * 32 + lane] = __reduce_min_sync(mask, v);
}

__global__ void BlockSumKernel(const float* in, float* out, int n) {
  SLUICE_DYNAMIC_SMEM(raw);
  gpu::SharedCarver carver(raw);
  float* const part = carver.Take<float>(static_cast<int>(blockDim.x));
  const unsigned t = threadIdx.x;
  part[t] = t < static_cast<unsigned>(n) ? in[t] : 0.0f;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (t < half) part[t] += part[t + half];
    __syncthreads();
  }
  out[t] = part[0];
}

__global__ void PredicatesKernel(int* out, int divisor) {
  const unsigned t = threadIdx.x;
  const int yes = t % static_cast<unsigned>(divisor) == 0;
  out[3 * t] = __syncthreads_count(yes);
  out[3 * t + 1] = __syncthreads_and(yes);
  out[3 * t + 2] = __syncthreads_or(yes);
}

__global__ void NamedBarriersKernel(int* out, int rounds) {
  constexpr int kFull = 1;
  constexpr int kEmpty = 2;
  SLUICE_SHARED(int[32], slot);
  const int lane = gpu::lane_id();
  if (threadIdx.x < 32) {
    for (int i = 0; i < rounds; ++i) {
      if (i > 0) gpu::barrier_sync(kEmpty, 64);
      slot[lane] = 3 * i;
      gpu::barrier_arrive(kFull, 64);
    }
  } else {
    for (int i = 0; i < rounds; ++i) {
      gpu::barrier_sync(kFull, 64);
      if (lane == i % 32) out[i] = slot[31 - lane];
      if (i + 1 < rounds) gpu::barrier_arrive(kEmpty, 64);
    }
  }
}

__global__ void DeadlockKernel(int waiting) {
  if (static_cast<int>(threadIdx.x) < waiting) {
    __syncthreads();
  } else {
    __shfl_sync(0xffffffffu, 1, 0);
  }
}

__global__ void SpinUntilSetKernel(int* flag) {
  if (threadIdx.x == 0) {
    while (atomicAdd(flag, 0) == 0) __nanosleep(100);
  }
  if (threadIdx.x == blockDim.x - 1) atomicExch(flag, 1);
}

__global__ void SpinForeverKernel(int* flag) {
  while (atomicAdd(flag, 0) == 0) __nanosleep(100);
}

__global__ void LiteralSharedSumKernel(const float* in, float* out, int n) {
  __shared__ float warps[32];
  float sum = 0;
  const int step = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += step) {
    sum += in[i];
  }
  for (unsigned d = 16; d != 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
  if (gpu::lane_id() == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (unsigned w = 1; w < blockDim.x / 32; ++w) sum += warps[w];
    atomicAdd(out, sum);
  }
}

__global__ void LastBlockSumKernel(float* parts, unsigned* counter, float* out) {
  if (threadIdx.x != 0) return;
  parts[blockIdx.x] = static_cast<float>(blockIdx.x + 1);
  __threadfence();
  if (atomicAdd(counter, 1u) != gridDim.x - 1) return;
  __threadfence();
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  *out = sum;
}

__global__ void TrapKernel(int thread) {
  if (static_cast<int>(threadIdx.x) == thread) __trap();
}

template <Product kProduct>
__global__ void RawMmaKernel(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  const int lane = gpu::lane_id();
  uint32_t fa[4];
  uint32_t fb[2];
  for (int i = 0; i < 4; ++i) fa[i] = a[lane * 4 + i];
  for (int i = 0; i < 2; ++i) fb[i] = b[lane * 2 + i];
  if constexpr (kProduct == Product::kS8) {
    int fc[4];
    int fd[4];
    for (int i = 0; i < 4; ++i) fc[i] = static_cast<int>(c[lane * 4 + i]);
    gpu::mma_m16n8k32_s8(fd, fa, fb, fc);
    for (int i = 0; i < 4; ++i) d[lane * 4 + i] = static_cast<uint32_t>(fd[i]);
  } else {
    float fc[4];
    for (int i = 0; i < 4; ++i) fc[i] = __uint_as_float(c[lane * 4 + i]);
    if constexpr (kProduct == Product::kBf16) {
      gpu::mma_m16n8k16_bf16(fc, fa, fb, fc);
    } else {
      gpu::mma_m16n8k16_f16(fc, fa, fb, fc);
    }
    for (int i = 0; i < 4; ++i) d[lane * 4 + i] = __float_as_uint(fc[i]);
  }
}

template <bool kTransposed, int kCount>
__global__ void RawLdmatrixKernel(uint32_t* out) {
  SLUICE_SHARED(uint4[32], rows);
  const int lane = gpu::lane_id();
  const auto word = [lane](int i) {
    return static_cast<uint32_t>(8 * lane + 2 * i) | static_cast<uint32_t>(8 * lane + 2 * i + 1)
                                                         << 16;
  };
  gpu::store_shared(&rows[lane], make_uint4(word(0), word(1), word(2), word(3)));
  __syncthreads();
  uint32_t r[kCount];
  gpu::ldmatrix<kTransposed, kCount>(r, &rows[lane]);
  for (int i = 0; i < kCount; ++i) out[lane * kCount + i] = r[i];
}

__global__ void AsyncThroughSharedKernel(const uint4* in, const int* valid, uint4* out, int n) {
  SLUICE_DYNAMIC_SMEM(raw);
  gpu::SharedCarver carver(raw);
  uint4* const stage = carver.Take<uint4>(n);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    gpu::cp_async16(&stage[i], &in[i], valid[i] != 0);
    gpu::cp_async_commit();
  }
  gpu::cp_async_wait<0>();
  __syncthreads();
  // Another thread's copy, so that the barrier matters.
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    gpu::store_global(&out[n - 1 - i], gpu::load_shared(&stage[n - 1 - i]));
  }
}

template <int kBytes>
__global__ void AsyncSmallKernel(const unsigned char* in, unsigned char* out, int n) {
  SLUICE_SHARED(uint2[64], stage);
  auto* const bytes = reinterpret_cast<unsigned char*>(stage);
  const int i = static_cast<int>(threadIdx.x);
  if (i < n) gpu::cp_async_small<kBytes>(bytes + i * kBytes, in + i * kBytes, i % 4 != 3);
  gpu::cp_async_commit();
  gpu::cp_async_wait<0>();
  if (i >= n) return;
  for (int b = 0; b < kBytes; ++b) out[i * kBytes + b] = bytes[i * kBytes + b];
}

template <class T, Path kPath>
__global__ void CopyElementsKernel(const unsigned char* in, unsigned char* out, int offset) {
  const auto* const from = reinterpret_cast<const T*>(in + offset) + threadIdx.x;
  T* const to = reinterpret_cast<T*>(out) + threadIdx.x;
  if constexpr (kPath == Path::kGlobal) {
    gpu::store_global(to, gpu::load_global(from));
  } else if constexpr (kPath == Path::kReadOnly) {
    gpu::store_global(to, gpu::load_global_nc(from));
  } else if constexpr (kPath == Path::kStreaming) {
    gpu::store_global_streaming(to, gpu::load_global_streaming(from));
  } else if constexpr (kPath == Path::kShared) {
    SLUICE_SHARED(uint4[32], stage);
    T* const mine = reinterpret_cast<T*>(stage) + threadIdx.x;
    gpu::store_shared(mine, gpu::load_global(from));
    gpu::store_global(to, gpu::load_shared(mine));
  } else {
    SLUICE_SHARED(uint4[32], stage);
    gpu::sts128(&stage[threadIdx.x], gpu::ldg128(from));
    gpu::stg128(to, gpu::lds128(&stage[threadIdx.x]));
  }
}

__global__ void StridedGlobalReadKernel(const float* in, float* out, int stride) {
  const int lane = gpu::lane_id();
  out[lane] = gpu::load_global(&in[lane * stride]);
}

__global__ void StridedSharedReadKernel(float* out, int stride) {
  SLUICE_DYNAMIC_SMEM(raw);
  float* const words = reinterpret_cast<float*>(raw);
  const int lane = gpu::lane_id();
  for (int i = lane; i < 32 * 33; i += 32) words[i] = static_cast<float>(i);
  __syncwarp();
  out[lane] = gpu::load_shared(&words[lane * stride]);
}

__global__ void RowReadsKernel(uint32_t* out, int row_bytes) {
  SLUICE_DYNAMIC_SMEM(raw);
  const int lane = gpu::lane_id();
  unsigned char* const row = raw + lane * row_bytes;
  gpu::sts128(row, make_uint4(1, 2, 3, 4));
  __syncwarp();
  uint32_t r[4];
  gpu::ldmatrix_x4<false>(r, row);
  out[lane] = gpu::lds128(row).x + r[0];
}

__global__ void ApproximationsKernel(const float* in, float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= n) return;
  out[i] = gpu::fast_exp2(in[i]);
  out[n + i] = gpu::fast_log2(in[i]);
  out[2 * n + i] = gpu::fast_reciprocal(in[i]);
}

__global__ void AddOneKernel(float* values, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) values[i] += 1;
}

__global__ void StoreAtKernel(int* values, int at) {
  if (threadIdx.x == 0) values[at] = 1;
}

__global__ void StoreSharedKernel(int at, int* out) {
  SLUICE_SHARED(int[16], array);
  if (threadIdx.x == 0) {
    int* const p = array;
    p[at] = 5;
    *out = p[at];
  }
}

__global__ void AllBlocksWriteKernel(int* value) {
  if (threadIdx.x == 0) *value = static_cast<int>(blockIdx.x);
}

__global__ void EmptyKernel() {}

}  // namespace

cudaError_t WarpOperations(const int* in, int* out, unsigned mask, int width, int amount,
                           cudaStream_t stream) {
  return Launch("warp_operations", &WarpOperationsKernel, 1, 32, 0, stream, in, out, mask, width,
                amount);
}
cudaError_t BlockSum(const float* in, float* out, int n, int threads, cudaStream_t stream) {
  gpu::SharedCarver carver(nullptr);
  carver.Take<float>(threads);
  return Launch("block_sum", &BlockSumKernel, 1, dim3(static_cast<unsigned>(threads)),
                carver.bytes(), stream, in, out, n);
}
cudaError_t Predicates(int* out, int divisor, int threads, cudaStream_t stream) {
  return Launch("predicates", &PredicatesKernel, 1, dim3(static_cast<unsigned>(threads)), 0, stream,
                out, divisor);
}
cudaError_t NamedBarriers(int* out, int rounds, cudaStream_t stream) {
  return Launch("named_barriers", &NamedBarriersKernel, 1, 64, 0, stream, out, rounds);
}
cudaError_t Deadlock(int waiting, int threads, cudaStream_t stream) {
  return Launch("deadlock", &DeadlockKernel, 1, dim3(static_cast<unsigned>(threads)), 0, stream,
                waiting);
}
cudaError_t SpinUntilSet(int* flag, int threads, cudaStream_t stream) {
  return Launch("spin", &SpinUntilSetKernel, 1, dim3(static_cast<unsigned>(threads)), 0, stream,
                flag);
}
cudaError_t SpinForever(int* flag, cudaStream_t stream) {
  return Launch("spin_forever", &SpinForeverKernel, 1, 32, 0, stream, flag);
}
cudaError_t LiteralSharedSum(const float* in, float* out, int n, int blocks, cudaStream_t stream) {
  return Launch("literal_shared", &LiteralSharedSumKernel, dim3(static_cast<unsigned>(blocks)), 96,
                0, stream, in, out, n);
}
cudaError_t LastBlockSum(float* parts, unsigned* counter, float* out, int blocks,
                         cudaStream_t stream) {
  return Launch("last_block", &LastBlockSumKernel, dim3(static_cast<unsigned>(blocks)), 64, 0,
                stream, parts, counter, out);
}
cudaError_t TrapInThread(int thread, cudaStream_t stream) {
  return Launch("trap", &TrapKernel, 1, 32, 0, stream, thread);
}

cudaError_t RawMma(Product product, const uint32_t* a, const uint32_t* b, const uint32_t* c,
                   uint32_t* d, cudaStream_t stream) {
  auto* const kernel = product == Product::kBf16  ? &RawMmaKernel<Product::kBf16>
                       : product == Product::kF16 ? &RawMmaKernel<Product::kF16>
                                                  : &RawMmaKernel<Product::kS8>;
  return Launch("raw_mma", kernel, 1, 32, 0, stream, a, b, c, d);
}
cudaError_t RawLdmatrix(int count, bool transposed, uint32_t* out, cudaStream_t stream) {
  auto* const plain = count == 1   ? &RawLdmatrixKernel<false, 1>
                      : count == 2 ? &RawLdmatrixKernel<false, 2>
                                   : &RawLdmatrixKernel<false, 4>;
  auto* const turned = count == 1   ? &RawLdmatrixKernel<true, 1>
                       : count == 2 ? &RawLdmatrixKernel<true, 2>
                                    : &RawLdmatrixKernel<true, 4>;
  return Launch("raw_ldmatrix", transposed ? turned : plain, 1, 32, 0, stream, out);
}
cudaError_t AsyncThroughShared(const uint4* in, const int* valid, uint4* out, int n,
                               cudaStream_t stream) {
  gpu::SharedCarver carver(nullptr);
  carver.Take<uint4>(n);
  return Launch("async", &AsyncThroughSharedKernel, 1, 64, carver.bytes(), stream, in, valid, out,
                n);
}
cudaError_t AsyncSmall(const unsigned char* in, unsigned char* out, int bytes, int n,
                       cudaStream_t stream) {
  return Launch("async_small", bytes == 4 ? &AsyncSmallKernel<4> : &AsyncSmallKernel<8>, 1, 64, 0,
                stream, in, out, n);
}

namespace {
template <Path kPath>
cudaError_t CopyElementsBy(const unsigned char* in, unsigned char* out, int bytes, int offset,
                           cudaStream_t stream) {
  auto* const kernel = bytes == 1   ? &CopyElementsKernel<unsigned char, kPath>
                       : bytes == 2 ? &CopyElementsKernel<unsigned short, kPath>
                       : bytes == 4 ? &CopyElementsKernel<float, kPath>
                       : bytes == 8 ? &CopyElementsKernel<uint2, kPath>
                                    : &CopyElementsKernel<uint4, kPath>;
  return Launch("copy_elements", kernel, 1, 32, 0, stream, in, out, offset);
}
}  // namespace

cudaError_t CopyElements(Path path, const unsigned char* in, unsigned char* out, int bytes,
                         int offset, cudaStream_t stream) {
  switch (path) {
    case Path::kGlobal:
      return CopyElementsBy<Path::kGlobal>(in, out, bytes, offset, stream);
    case Path::kReadOnly:
      return CopyElementsBy<Path::kReadOnly>(in, out, bytes, offset, stream);
    case Path::kStreaming:
      return CopyElementsBy<Path::kStreaming>(in, out, bytes, offset, stream);
    case Path::kShared:
      return CopyElementsBy<Path::kShared>(in, out, bytes, offset, stream);
    case Path::kVector:
      break;
  }
  return Launch("copy_elements", &CopyElementsKernel<uint4, Path::kVector>, 1, 32, 0, stream, in,
                out, offset);
}
cudaError_t StridedGlobalRead(const float* in, float* out, int stride, cudaStream_t stream) {
  return Launch("strided_global", &StridedGlobalReadKernel, 1, 32, 0, stream, in, out, stride);
}
cudaError_t StridedSharedRead(float* out, int stride, cudaStream_t stream) {
  return Launch("strided_shared", &StridedSharedReadKernel, 1, 32, 32 * 33 * sizeof(float), stream,
                out, stride);
}
cudaError_t RowReads(uint32_t* out, int row_bytes, cudaStream_t stream) {
  return Launch("row_reads", &RowReadsKernel, 1, 32, static_cast<size_t>(32 * row_bytes), stream,
                out, row_bytes);
}
cudaError_t Approximations(const float* in, float* out, int n, cudaStream_t stream) {
  return Launch("approximations", &ApproximationsKernel, 1, dim3(static_cast<unsigned>(n)), 0,
                stream, in, out, n);
}

cudaError_t AddOne(float* values, int n, cudaStream_t stream) {
  return Launch("add_one", &AddOneKernel, dim3(static_cast<unsigned>((n + 127) / 128)), 128, 0,
                stream, values, n);
}
cudaError_t StoreAt(int* values, int at, cudaStream_t stream) {
  return Launch("store_at", &StoreAtKernel, 1, 32, 0, stream, values, at);
}
cudaError_t StoreShared(int at, int* out, cudaStream_t stream) {
  return Launch("store_shared", &StoreSharedKernel, 1, 32, 0, stream, at, out);
}
cudaError_t AllBlocksWrite(int* value, int blocks, cudaStream_t stream) {
  return Launch("all_blocks_write", &AllBlocksWriteKernel, dim3(static_cast<unsigned>(blocks)), 32,
                0, stream, value);
}
cudaError_t UseShared(size_t bytes, cudaStream_t stream) {
  return Launch("use_shared", &EmptyKernel, 1, 32, bytes, stream);
}
cudaError_t AllowUseShared(size_t bytes) { return gpu::AllowSharedBytes(&EmptyKernel, bytes); }
cudaError_t UseSharedOccupancy(int threads, size_t bytes, int* blocks) {
  return gpu::BlocksPerMultiprocessor(&EmptyKernel, threads, bytes, blocks);
}
cudaError_t LaunchShape(dim3 grid, dim3 block, cudaStream_t stream) {
  return Launch("launch_shape", &EmptyKernel, grid, block, 0, stream);
}

}  // namespace sluice::toy
