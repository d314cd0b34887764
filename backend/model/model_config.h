// ModelConfig: the architecture of a checkpoint, read from its config.json. One struct serves every
// supported family; what a family lacks is off.
//
// Supported: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM. Anything
// else is UNIMPLEMENTED, and the message names the field.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice {

enum class RopeKind : uint8_t { kDefault, kLinear, kLlama3, kYarn };

// Rotary position embedding (Su et al. 2021) and its long-context variants, with Hugging Face's
// parameter names.
struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                           // linear, llama3, yarn
  double low_freq_factor = 1.0;                  // llama3
  double high_freq_factor = 4.0;                 // llama3
  int64_t original_max_position_embeddings = 0;  // llama3, yarn
  double beta_fast = 32.0;                       // yarn
  double beta_slow = 1.0;                        // yarn
  double attention_factor = 1.0;                 // yarn: multiplies cos and sin
};

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"
  std::string model_type;    // "llama"

  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t intermediate = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;  // divides heads
  int32_t head_dim = 0;  // even
  int32_t vocab = 0;
  int64_t max_position_embeddings = 0;  // what can be served: cut to sliding_window
  int64_t sliding_window = 0;           // Mistral, Qwen with use_sliding_window; 0 = none
  double rms_norm_eps = 1e-6;
  RopeConfig rope;

  bool tie_word_embeddings = false;
  bool qkv_bias = false;     // Qwen2, or attention_bias
  bool output_bias = false;  // attention_bias (Llama, Qwen3): o_proj has a bias too
  bool mlp_bias = false;
  bool qk_norm = false;  // Qwen3: RMSNorm over head_dim on q and k, before RoPE

  std::string torch_dtype;  // "bfloat16", "float16", "float32", or empty if absent

  // From generation_config.json where present, else config.json. Ids outside the vocabulary, which
  // can never come up, are left out.
  std::vector<TokenId> eos_ids;
  TokenId bos_id = -1;  // -1: none

  int32_t q_dim() const { return heads * head_dim; }
  int32_t kv_dim() const { return kv_heads * head_dim; }
  // KV bytes of one token over all layers, for elements of `element_size` bytes.
  Bytes KvBytesPerToken(int64_t element_size) const {
    return Bytes(2 * int64_t{layers} * kv_dim() * element_size);
  }
};

// Reads `dir`/config.json and `dir`/generation_config.json (optional).
// Returns NOT_FOUND without config.json, INVALID_ARGUMENT naming file, field, value and what is
// allowed, UNIMPLEMENTED for an architecture or feature that is not supported.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& dir);

// The same from JSON text (`generation_json` may be empty); `where` names the file in messages.
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& config_json,
                                             const std::string& generation_json,
                                             const std::string& where);

// cos/sin frequencies: inverse frequency of each of the head_dim / 2 rotated pairs, with the
// scaling of `rope` applied. (attention_factor is not applied here.)
std::vector<double> RopeInverseFrequencies(const RopeConfig& rope, int32_t head_dim,
                                           int64_t max_position_embeddings);

}  // namespace sluice
