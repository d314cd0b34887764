#include "tests/cuda_on_cpu/emulation/seeded_kernels.h"

#include "backend/cuda/gpu/device.h"

namespace sluice::seeded {
namespace {

using gpu::Launch;
using Bug = KernelBug;

constexpr int kWarps = kThreads / 32;
constexpr int kRowVectors = kColumns / 4;  // 16-byte vectors in a row
constexpr int kPageVectors = kPageRows * kRowVectors;

struct Shared {
  float* stage[2];  // [kPageRows][kColumns]
  float* parts;     // [kWarps][kColumns]
  float* exchange;  // [kThreads]
};

__host__ __device__ inline size_t Carve(unsigned char* raw, Shared* shared) {
  gpu::SharedCarver carver(raw);
  shared->stage[0] = carver.Take<float>(kPageRows * kColumns);
  shared->stage[1] = carver.Take<float>(kPageRows * kColumns);
  shared->parts = carver.Take<float>(kWarps * kColumns);
  shared->exchange = carver.Take<float>(kThreads);
  return carver.bytes();
}

template <Bug kBug>
__device__ void Fetch(const PagedSumParams& p, int page, float* stage) {
  const int first = static_cast<int>(blockIdx.x) * p.pages_per_split;
  const int entry = first + page + (kBug == Bug::kNextPage ? 1 : 0);
  const float* const from =
      p.values + static_cast<ptrdiff_t>(p.table[entry]) * kPageRows * kColumns;
  for (int v = static_cast<int>(threadIdx.x); v < kPageVectors; v += kThreads) {
    gpu::cp_async16(stage + 4 * v, from + 4 * v);
  }
}

// The lane's two columns of the rows of one page that belong to its warp.
template <Bug kBug>
__device__ float2 SumRows(const float* stage, int page) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  float2 sum{0, 0};
  for (int r = warp; r < kPageRows; r += kWarps) {
    const int row = kBug == Bug::kNextRow ? r + 1 : r;
    const float weight = Weight(page * kPageRows + r);
    const float2 v = gpu::load_shared(
        reinterpret_cast<const float2*>(stage + row * kColumns + 2 * gpu::lane_id()));
    sum.x += weight * v.x;
    sum.y += weight * v.y;
  }
  return sum;
}

// Swaps neighbouring lanes' values through shared memory, twice: nothing changes if the warp keeps
// together.
template <Bug kBug>
__device__ float2 Exchange(float2 sum, float* exchange) {
  float* const mine = exchange + threadIdx.x / 32 * 32;
  const int lane = gpu::lane_id();
  for (int turn = 0; turn < 2; ++turn) {
    mine[lane] = sum.x;
    if constexpr (kBug != Bug::kNoSyncWarp) __syncwarp();
    sum.x = mine[lane ^ 1];
    if constexpr (kBug != Bug::kNoSyncWarp) __syncwarp();
  }
  if constexpr (kBug == Bug::kShuffleWithMissingLanes) {
    if (lane < 16) sum.y = __shfl_sync(0xffffffffu, sum.y, lane);
  } else {
    sum.y = __shfl_sync(0xffffffffu, sum.y, lane);
  }
  return sum;
}

// The last block to come adds up all splits.
template <Bug kBug>
__device__ void AddTotal(const PagedSumParams& p) {
  SLUICE_SHARED(int, last);
  __syncthreads();
  if (threadIdx.x == 0) {
    if constexpr (kBug != Bug::kNoFence) __threadfence();
    last = atomicAdd(p.finished, 1u) == gridDim.x - 1 ? 1 : 0;
    if constexpr (kBug != Bug::kNoFence) __threadfence();
  }
  __syncthreads();
  if (last == 0 || threadIdx.x >= kColumns) return;
  float total = 0;
  for (unsigned split = 0; split < gridDim.x; ++split) {
    total += p.out[split * kColumns + threadIdx.x];
  }
  p.total[threadIdx.x] = total;
}

template <Bug kBug>
__device__ float2 SumSplit(const PagedSumParams& p, const Shared& shared) {
  float2 sum{0, 0};
  Fetch<kBug>(p, 0, shared.stage[0]);
  gpu::cp_async_commit();
  for (int page = 0; page < p.pages_per_split; ++page) {
    if (page + 1 < p.pages_per_split) Fetch<kBug>(p, page + 1, shared.stage[(page + 1) % 2]);
    gpu::cp_async_commit();
    if constexpr (kBug != Bug::kNoAsyncWait) gpu::cp_async_wait<1>();
    if constexpr (kBug == Bug::kDifferentBarriers) {
      if (threadIdx.x < 64) {
        __syncthreads();
      } else {
        __syncthreads();
      }
    } else if constexpr (kBug != Bug::kNoBarrierAfterWait) {
      __syncthreads();
    }
    const float2 part = SumRows<kBug>(shared.stage[page % 2], page);
    sum.x += part.x;
    sum.y += part.y;
    if constexpr (kBug == Bug::kEarlyReturn) {
      if (threadIdx.x >= 96) return sum;
    }
    if constexpr (kBug != Bug::kNoBarrierBeforeRefill) __syncthreads();
  }
  return sum;
}

template <Bug kBug>
__global__ void PagedSumKernel(PagedSumParams p) {
  SLUICE_DYNAMIC_SMEM(raw);
  Shared shared;
  Carve(raw, &shared);
  float2 sum = SumSplit<kBug>(p, shared);
  if constexpr (kBug == Bug::kEarlyReturn) {
    if (threadIdx.x >= 96) return;
  }
  sum = Exchange<kBug>(sum, shared.exchange);
  const int column = 2 * gpu::lane_id();
  gpu::store_shared(reinterpret_cast<float2*>(shared.parts + threadIdx.x / 32 * kColumns + column),
                    sum);
  if constexpr (kBug != Bug::kPartsBeforeBarrier) __syncthreads();
  if (threadIdx.x < kColumns) {
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += shared.parts[w * kColumns + threadIdx.x];
    const unsigned at = blockIdx.x * kColumns + threadIdx.x;
    p.out[at + (kBug == Bug::kResultOutOfBounds ? 1 : 0)] = total;
  }
  if constexpr (kBug == Bug::kMisalignedLoad) {
    p.total[0] = gpu::load_global(reinterpret_cast<const float4*>(p.values + 1)).x;
  }
  if constexpr (kBug == Bug::kAllBlocksWriteOne) {
    if (threadIdx.x == 0) p.total[0] = 0;
  }
  AddTotal<kBug>(p);
}

__global__ void ScaleAddKernel(const float* in, float* accumulator, float factor, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) accumulator[i] = factor * accumulator[i] + in[i];
}

template <int... kIndex>
cudaError_t Dispatch(Bug bug, const PagedSumParams& params, unsigned splits, cudaStream_t stream,
                     std::integer_sequence<int, kIndex...>) {
  Shared shared;
  const size_t bytes = Carve(nullptr, &shared);
  cudaError_t error = cudaErrorInvalidValue;
  static_cast<void>(((static_cast<int>(bug) == kIndex &&
                      (error = Launch("paged_sum", &PagedSumKernel<static_cast<Bug>(kIndex)>,
                                      dim3(splits), kThreads, bytes, stream, params),
                       true)) ||
                     ...));
  return error;
}

}  // namespace

const char* Name(KernelBug bug) {
  static constexpr const char* kNames[kKernelBugs] = {"none",
                                                      "no_barrier_before_refill",
                                                      "no_barrier_after_wait",
                                                      "no_async_wait",
                                                      "result_out_of_bounds",
                                                      "parts_before_barrier",
                                                      "next_row",
                                                      "next_page",
                                                      "different_barriers",
                                                      "shuffle_with_missing_lanes",
                                                      "misaligned_load",
                                                      "no_sync_warp",
                                                      "early_return",
                                                      "no_fence",
                                                      "all_blocks_write_one"};
  return kNames[static_cast<int>(bug)];
}

cudaError_t PagedSum(KernelBug bug, const PagedSumParams& params, int splits, cudaStream_t stream) {
  return Dispatch(bug, params, static_cast<unsigned>(splits), stream,
                  std::make_integer_sequence<int, kKernelBugs>());
}

cudaError_t ScaleAdd(const float* in, float* accumulator, float factor, int n,
                     cudaStream_t stream) {
  return Launch("scale_add", &ScaleAddKernel, dim3(static_cast<unsigned>((n + 63) / 64)), 64, 0,
                stream, in, accumulator, factor, n);
}

}  // namespace sluice::seeded
