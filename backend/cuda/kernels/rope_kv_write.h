// From the projected q, k and v of a step's tokens to what attention reads:
//   q, k  add the bias, normalize each head (RMSNorm over D), rotate
//   v     add the bias
// q goes to a dense array, k and v to their slots of the KV pool, quantized where it is 8-bit.
//
// Rotation is Hugging Face's "rotate half": pair i of a head is (x[i], x[i + D / 2]); its angle's
// cosine and sine come from a table that the host computes in double precision
// (backend/model/rope.h), whatever the scaling of the frequencies.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

struct RopeKvWriteParams {
  const void* qkv = nullptr;     // device, half [T][Hq + 2 Hkv][D]: q heads, k heads, v heads
  const void* bias = nullptr;    // device, half [Hq + 2 Hkv][D]; null: none
  const void* q_norm = nullptr;  // device, half [D]; null: none
  const void* k_norm = nullptr;  // likewise
  float norm_eps = 1e-6F;
  const float2* rotation = nullptr;    // device, [positions][D / 2] of (cosine, sine)
  const int32_t* positions = nullptr;  // device, [T]
  // device, [T]: block * block_tokens + place in the block; negative: k and v are not kept
  const int32_t* slots = nullptr;
  void* q = nullptr;   // device, half [T][Hq][D]
  KvView pool;         // `blocks` is not used
  int32_t tokens = 0;  // T; 0 is fine and launches nothing
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;  // multiple of 16, at most 256
  HalfType half = HalfType::kBf16;
  KvType kv = KvType::kHalf;
};

// Enqueues one launch. Returns cudaErrorInvalidValue for a head_dim or scale group out of range.
[[nodiscard]] cudaError_t LaunchRopeKvWrite(const RopeKvWriteParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
