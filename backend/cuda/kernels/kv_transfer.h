// Copies blocks of one layer between two KV pools by a kernel that reads or writes mapped host
// memory itself: gathers from and scatters to any blocks, and changes the type on the way
// (quantizes 16-bit K and V where the target is 8-bit, dequantizes where the source is).
//
// For copies too small or too scattered for the copy engines; which is which, calibration says.
// Stores to host memory are visible to the host after an event recorded behind the launch.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

struct KvTransferPair {
  int32_t from = 0;  // block of the source pool
  int32_t to = 0;    // block of the target pool
};

struct KvTransferParams {
  const KvTransferPair* pairs = nullptr;  // device or mapped host memory, [count]; no target twice
  int32_t count = 0;                      // 0 is fine and launches nothing
  KvPageShape shape;  // `type` is not used; scale_group holds where one side is 8-bit
  KvType from_type = KvType::kHalf;
  KvType to_type = KvType::kHalf;
  KvView from;  // one layer of each pool; `blocks` are not used
  KvView to;
  HalfType half = HalfType::kBf16;
  // Device, [count], or null: set to 1 for pairs whose block has a number that cannot be quantized,
  // not finite or above 2^120. Others are left as they are.
  int32_t* broken = nullptr;
};

// Enqueues one launch.
// Returns cudaErrorInvalidValue if both sides are 8-bit and either the types or the strides differ,
// or if head_dim is above 256 where the type changes.
[[nodiscard]] cudaError_t LaunchKvTransfer(const KvTransferParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
