// Parameters of a decoder from the sizes of its matrices.
#pragma once

#include <cstdint>

namespace sluice {

// The sizes that a config.json states. What a family lacks is 0 or off.
struct DecoderShape {
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t vocabulary = 0;

  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;

  // Multi-head latent attention, if kv_rank > 0.
  int64_t query_rank = 0;  // 0: queries are not compressed
  int64_t kv_rank = 0;
  int64_t nope_dim = 0;
  int64_t rope_dim = 0;
  int64_t value_dim = 0;

  int64_t intermediate = 0;  // of dense layers
  // Mixture of experts, in the layers that are not dense.
  int64_t dense_layers = 0;  // all of them without experts
  int64_t experts = 0;
  int64_t experts_per_token = 0;
  int64_t shared_experts = 0;
  int64_t expert_intermediate = 0;

  int64_t norms_per_layer = 2;
  bool tied_embeddings = false;  // the embedding is also the output table
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool router_bias = false;
  bool qk_norm = false;
  bool sinks = false;  // one learned logit per head
  // The publisher's count of active parameters leaves out an embedding that is looked up.
  bool active_without_embedding = false;
};

struct ParameterCounts {
  double total = 0;
  double active = 0;    // all but the experts a token does not visit
  double prefill = 0;   // of the active ones, those a prefilled token is multiplied with
  double streamed = 0;  // all but an embedding that is only looked up
};

ParameterCounts CountParameters(const DecoderShape& shape);

}  // namespace sluice
