// A small paged kernel with the synchronisation of a real one, and the mistakes one makes in it.
//
// out[b][c] = sum over the rows of split b of weight(row) * value[page(row)][row % 16][c], for 64
// columns c. Pages come from a table, are staged in shared memory by cp.async in two buffers, each
// warp sums a quarter of the rows, and the warps' parts are added up at the end.
#pragma once

#include "backend/cuda/gpu/gpu.h"

namespace sluice::seeded {

enum class KernelBug {
  kNone,
  kNoBarrierBeforeRefill,    // a buffer is refilled while slower warps read it
  kNoBarrierAfterWait,       // other threads' copies are read before they are visible
  kNoAsyncWait,              // copies are read before they have landed
  kResultOutOfBounds,        // one element past the output
  kPartsBeforeBarrier,       // the warps' parts are added before all are written
  kNextRow,                  // off by one in a shared tile
  kNextPage,                 // off by one in the page table
  kDifferentBarriers,        // half of the block takes another __syncthreads
  kShuffleWithMissingLanes,  // full mask, half of the warp
  kMisalignedLoad,
  kNoSyncWarp,
  kEarlyReturn,  // before a barrier
  kNoFence,      // "last block adds up" without __threadfence
  kAllBlocksWriteOne,
};
inline constexpr int kKernelBugs = 15;
const char* Name(KernelBug bug);

inline constexpr int kPageRows = 16;
inline constexpr int kColumns = 64;
inline constexpr int kThreads = 128;

struct PagedSumParams {
  const float* values;  // [pages][kPageRows][kColumns]
  const int* table;     // [splits * pages_per_split]
  float* out;           // [splits][kColumns]
  float* total;         // [kColumns]: sum over splits, by the last block
  unsigned* finished;   // zero at first
  int pages_per_split;
};

// The weight of row `row` of a split.
constexpr float Weight(int row) { return 1.0f + static_cast<float>(row % 5); }

cudaError_t PagedSum(KernelBug bug, const PagedSumParams& params, int splits, cudaStream_t stream);

// values[i] = factor * values[i] + layer; the "compute" of the pipeline tests.
cudaError_t ScaleAdd(const float* in, float* accumulator, float factor, int n, cudaStream_t stream);

}  // namespace sluice::seeded
