// Small kernels, one per feature of the emulation, and their launches.
#pragma once

#include "backend/cuda/gpu/gpu.h"

namespace sluice::toy {

// ---- Warp operations. One warp; out holds 32 values per operation, in the order below.
inline constexpr int kWarpOutputs = 10;
// Shuffles and votes of `in` under `mask`; lanes outside leave their outputs alone.
cudaError_t WarpOperations(const int* in, int* out, unsigned mask, int width, int amount,
                           cudaStream_t stream);

// ---- Barriers
// out[t]: sum of in[0..n-1] as seen by thread t after a block-wide tree in shared memory.
cudaError_t BlockSum(const float* in, float* out, int n, int threads, cudaStream_t stream);
// out[3 t ..]: count, and, or of (t % divisor == 0) over the block.
cudaError_t Predicates(int* out, int divisor, int threads, cudaStream_t stream);
// Warp 0 produces, warp 1 consumes through two named barriers; out[i] = 3 i for i < 32 rounds.
cudaError_t NamedBarriers(int* out, int rounds, cudaStream_t stream);
// Threads below `waiting` wait at a barrier, the others in a shuffle: no thread can go on.
cudaError_t Deadlock(int waiting, int threads, cudaStream_t stream);
// Thread 0 waits, with nanosleep, for a flag that the last thread sets.
cudaError_t SpinUntilSet(int* flag, int threads, cudaStream_t stream);
cudaError_t SpinForever(int* flag, cudaStream_t stream);
// A literal `__shared__` array, a grid-stride loop and an atomic sum.
cudaError_t LiteralSharedSum(const float* in, float* out, int n, int blocks, cudaStream_t stream);
// The last block to finish adds up what the blocks wrote.
cudaError_t LastBlockSum(float* parts, unsigned* counter, float* out, int blocks,
                         cudaStream_t stream);
cudaError_t TrapInThread(int thread, cudaStream_t stream);

// ---- Instructions. One warp.
enum class Product { kBf16, kF16, kS8 };
// a: 4 words per lane, b: 2, c and d: 4 (as bits).
cudaError_t RawMma(Product product, const uint32_t* a, const uint32_t* b, const uint32_t* c,
                   uint32_t* d, cudaStream_t stream);
// Halfword i of row r holds 8 r + i; out: `count` words per lane.
cudaError_t RawLdmatrix(int count, bool transposed, uint32_t* out, cudaStream_t stream);
// Copies n * 16 bytes through shared memory with cp.async, in groups; valid[i] false: zeros.
cudaError_t AsyncThroughShared(const uint4* in, const int* valid, uint4* out, int n,
                               cudaStream_t stream);
// Copies n words of 4 or 8 bytes through shared memory with the small cp.async.
cudaError_t AsyncSmall(const unsigned char* in, unsigned char* out, int bytes, int n,
                       cudaStream_t stream);
// Which load and store of memory.h.
enum class Path { kGlobal, kReadOnly, kStreaming, kShared, kVector };
// out[i] = in[i + offset] for 32 elements of `bytes` each, `offset` in bytes. kVector: 16 bytes
// only.
cudaError_t CopyElements(Path path, const unsigned char* in, unsigned char* out, int bytes,
                         int offset, cudaStream_t stream);
// Lane l reads the 4-byte word l * stride of global or shared memory.
cudaError_t StridedGlobalRead(const float* in, float* out, int stride, cudaStream_t stream);
cudaError_t StridedSharedRead(float* out, int stride, cudaStream_t stream);
// Lane l reads 16 bytes of row l, rows `row_bytes` apart, by lds128 and by ldmatrix.
cudaError_t RowReads(uint32_t* out, int row_bytes, cudaStream_t stream);
// out: exp2, log2, 1/x of in.
cudaError_t Approximations(const float* in, float* out, int n, cudaStream_t stream);

// ---- Plain work for stream tests
cudaError_t AddOne(float* values, int n, cudaStream_t stream);
cudaError_t StoreAt(int* values, int at, cudaStream_t stream);
// Writes element `at` of a static shared array of 16 ints.
cudaError_t StoreShared(int at, int* out, cudaStream_t stream);
// Every block writes its index.
cudaError_t AllBlocksWrite(int* value, int blocks, cudaStream_t stream);
cudaError_t UseShared(size_t bytes, cudaStream_t stream);
cudaError_t AllowUseShared(size_t bytes);
cudaError_t UseSharedOccupancy(int threads, size_t bytes, int* blocks);
cudaError_t LaunchShape(dim3 grid, dim3 block, cudaStream_t stream);

}  // namespace sluice::toy
