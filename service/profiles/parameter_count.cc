#include "service/profiles/parameter_count.h"

namespace sluice {
namespace {

int64_t LatentAttention(const DecoderShape& s) {
  const int64_t query_dim = s.heads * (s.nope_dim + s.rope_dim);
  const int64_t query = s.query_rank > 0
                            ? s.hidden * s.query_rank + s.query_rank + s.query_rank * query_dim
                            : s.hidden * query_dim;
  const int64_t compress = s.hidden * (s.kv_rank + s.rope_dim) + s.kv_rank;
  const int64_t expand = s.kv_rank * s.heads * (s.nope_dim + s.value_dim);
  const int64_t output = s.heads * s.value_dim * s.hidden;
  return query + compress + expand + output;
}

int64_t HeadAttention(const DecoderShape& s) {
  const int64_t query_dim = s.heads * s.head_dim;
  const int64_t kv_dim = 2 * s.kv_heads * s.head_dim;
  int64_t sum = s.hidden * (query_dim + kv_dim) + query_dim * s.hidden;
  if (s.qkv_bias) sum += query_dim + kv_dim;
  if (s.output_bias) sum += s.hidden;
  if (s.qk_norm) sum += 2 * s.head_dim;
  if (s.sinks) sum += s.heads;
  return sum;
}

// Gate, up and down.
int64_t Mlp(const DecoderShape& s, int64_t intermediate) {
  return 3 * s.hidden * intermediate + (s.mlp_bias ? 2 * intermediate + s.hidden : 0);
}

}  // namespace

ParameterCounts CountParameters(const DecoderShape& s) {
  const int64_t attention = s.kv_rank > 0 ? LatentAttention(s) : HeadAttention(s);
  const int64_t every_layer = attention + s.norms_per_layer * s.hidden;
  const int64_t expert = Mlp(s, s.expert_intermediate);
  const int64_t router = s.hidden * s.experts + (s.router_bias ? s.experts : 0);
  const int64_t table = s.vocabulary * s.hidden;
  const int64_t moe_layers = s.layers - s.dense_layers;
  const int64_t idle_experts = s.experts - s.experts_per_token;

  const int64_t layers = s.layers * every_layer + s.dense_layers * Mlp(s, s.intermediate) +
                         moe_layers * ((s.experts + s.shared_experts) * expert + router);
  const int64_t tables = s.tied_embeddings ? table : 2 * table;
  const int64_t looked_up = s.tied_embeddings ? 0 : table;
  const int64_t total = layers + tables + s.hidden;  // and the last norm
  const int64_t active = total - moe_layers * idle_experts * expert;

  ParameterCounts counts;
  counts.total = static_cast<double>(total);
  counts.active = static_cast<double>(active - (s.active_without_embedding ? looked_up : 0));
  counts.prefill = static_cast<double>(active - tables);
  counts.streamed = static_cast<double>(total - looked_up);
  return counts;
}

}  // namespace sluice
