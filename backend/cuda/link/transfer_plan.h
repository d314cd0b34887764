// TransferPlan: how one slice of a copy (one layer of some blocks) is handed to the device: as
// copies by the copy engine, neighbours merged, or as one launch of the kernel that gathers and
// scatters. Pure.
//
// A copy engine takes 0.5 us per descriptor whatever its size (paper.md's figures: 8 KiB pieces
// reach 16 of 55 GB/s), a kernel that reads mapped host memory does not care; above some bytes per
// descriptor the engine wins and leaves the multiprocessors alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cuda/kernels/kv_transfer.h"
#include "backend/cuda/link/kv_pools.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice::cuda {

// Rows of bytes at even distances on either side: one descriptor.
struct CopyRun {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  int64_t width = 0;  // bytes of a row
  int64_t rows = 1;   // 1: the pitches do not matter
  int64_t to_pitch = 0;
  int64_t from_pitch = 0;

  int64_t bytes() const { return width * rows; }
};

struct TransferPlan {
  bool by_kernel = false;
  std::vector<CopyRun> runs;          // by the copy engine: independent of each other
  std::vector<KvTransferPair> pairs;  // by kernel: (from, to)
};

// The plan for `layer` of `blocks`, into *plan (whose memory is used again). The kernel is chosen
// where the codec asks for it, and where descriptors would have fewer than `kernel_below` bytes on
// average. REQUIRES: `direction` is one of the host link; blocks lie inside the pools.
void PlanTransfer(const CudaKvPools& pools, LinkDirection direction, int layer,
                  std::span<const Copy::Pair> blocks, Bytes kernel_below, TransferPlan* plan);

}  // namespace sluice::cuda
