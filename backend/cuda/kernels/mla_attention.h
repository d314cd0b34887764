// Multi-head latent attention (DeepSeek-V2, 2024) over a paged latent cache, for decode and prefill
// alike, in the absorbed form: all heads of a token attend to one row per KV token,
//   row[j] = { latent [512], rotated key [64] }
//   out[t][h] = sum_j softmax_j(scale * q[t][h] . row[j]) latent[j]
// where q holds W_uk^T q_nope next to the rotated part, and the caller multiplies out by W_uv.
//
// Work lists, partial results and merges are those of attention.h and attention_merge.h (dim 512),
// with MlaTokensPerTile() tokens per item at most. A row's result is a function of its own
// sequence, bit for bit, as attention.h says; one that folds several segments needs scratch rows.
#pragma once

#include <cstdint>

#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/kernels/types.h"

namespace sluice::cuda {

inline constexpr int32_t kMlaLatent = 512;
inline constexpr int32_t kMlaRope = 64;
inline constexpr int32_t kMlaRow = kMlaLatent + kMlaRope;
inline constexpr int32_t kMlaTileRows = 64;

// How many tokens an item may have; heads above a tile's rows are cut into several tiles.
constexpr int32_t MlaTokensPerTile(int32_t heads) {
  return heads >= kMlaTileRows ? 1 : kMlaTileRows / heads;
}

struct MlaAttentionParams {
  const void* q = nullptr;               // device, half [T][heads][576], dense
  void* out = nullptr;                   // device, half [T][heads][512]
  float* partial = nullptr;              // device, [partial rows][heads][512]: parts and scratch
  float* lse = nullptr;                  // device, [partial rows][heads], base 2
  const AttentionWork* works = nullptr;  // device, [work_count]
  int32_t work_count = 0;                // 0 is fine and launches nothing
  // Row (block b, token t) at data + b * block_stride + t * token_stride: half [576].
  // views[0].blocks is the table of both pools, see InSecondPool().
  KvView views[2];
  int32_t heads = 0;  // divides 64, or a multiple of 64
  float scale = 0.0F;
  HalfType half = HalfType::kBf16;
};

// Enqueues one launch. Returns cudaErrorInvalidValue for a number of heads that does not fit tiles.
[[nodiscard]] cudaError_t LaunchMlaAttention(const MlaAttentionParams& params, cudaStream_t stream);

}  // namespace sluice::cuda
