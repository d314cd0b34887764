// CpuWeights: a checkpoint packed for the forward pass.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "backend/cpu/element.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/huge_buffer.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"

namespace sluice {

// Empty vectors: the model has none.
struct CpuLayer {
  std::vector<float> input_norm;  // [hidden]
  PackedMatrix qkv;               // q, k, v one below the other
  std::vector<float> qkv_bias;
  std::vector<float> q_norm;  // [head_dim]
  std::vector<float> k_norm;
  PackedMatrix o;
  std::vector<float> o_bias;
  std::vector<float> post_attention_norm;
  PackedMatrix gate_up;  // see GateUpColumn
  std::vector<float> gate_up_bias;
  PackedMatrix down;
  std::vector<float> down_bias;
};

// gate and up alternate in runs of kGateUpRun outputs (the last run may be shorter), so that a
// tile of the product holds both factors of SwiGLU.
inline constexpr int64_t kGateUpRun = Gemm::kColumnAlignment / 2;

struct CpuWeights {
  Element element = Element::kF32;
  HugeBuffer embedding;  // [vocab][hidden] of elements
  std::vector<CpuLayer> layers;
  std::vector<float> final_norm;
  PackedMatrix lm_head;
  Bytes packed_bytes;  // all matrices one token's forward pass reads
};

// Reads, converts and packs everything, layer by layer, on the threads of `gemm`'s pool.
absl::StatusOr<CpuWeights> PackWeights(const ModelConfig& config, const Checkpoint& checkpoint,
                                       Element element, Gemm& gemm);

// Writes row `token` of the embedding to `out`. REQUIRES: 0 <= token < vocab.
void EmbedToken(const CpuWeights& weights, TokenId token, std::span<float> out);

}  // namespace sluice
