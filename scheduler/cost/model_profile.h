// ModelProfile: what the cost model must know of a model. Made from a table of data files or from
// any Hugging Face config.json (service/profiles); here are only the numbers and what follows from
// them.
//
// Values; thread-compatible.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/measure.h"

namespace sluice {

// How a number is stored. Rates and sizes depend on it.
enum class NumberFormat : uint8_t { kF32, kBf16, kFp8, kInt8, kInt4, kFp4 };
inline constexpr int kNumberFormatCount = 6;

// 4, 2, 1, 1, 0.5, 0.5.
double BytesOf(NumberFormat format);
// "f32", "bf16", "fp8", "int8", "int4", "fp4".
const char* NumberFormatName(NumberFormat format);

struct ModelProfile {
  std::string name;    // "llama-3.1-70b"
  std::string source;  // where the numbers are from

  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0;           // query heads
  int64_t kv_heads = 0;        // == heads: MHA; 1: MQA
  int64_t head_dim = 0;        // of queries and keys
  int64_t value_head_dim = 0;  // of values; usually head_dim
  // Multi-head latent attention: numbers cached per token and layer (kv_lora_rank + rope dim)
  // instead of keys and values per head. 0: no MLA.
  int64_t latent_dim = 0;
  int64_t latent_value_dim = 0;  // of these, the part values are made from (kv_lora_rank)
  // Sliding-window attention: how many layers see only the last `window` tokens.
  int64_t windowed_layers = 0;
  int64_t window = 0;

  int64_t max_context = 0;  // tokens
  double total_parameters = 0;
  // Per token, counted as the publisher counts; less than total for mixtures of experts.
  double active_parameters = 0;
  // Of the active ones, those a prefilled token is multiplied with. The embedding is only looked
  // up, and the output table only multiplies the rows that sample. 0: all active ones.
  double prefill_parameters = 0;
  // Read in a step that touches every expert: all but an embedding that is not also the output
  // table. 0: all.
  double streamed_parameters = 0;
  NumberFormat weights = NumberFormat::kBf16;  // as published

  // The two above with their defaults applied.
  double PrefillParameters() const {
    return prefill_parameters > 0 ? prefill_parameters : active_parameters;
  }
  double StreamedParameters() const {
    return streamed_parameters > 0 ? streamed_parameters : total_parameters;
  }

  // Returns INVALID_ARGUMENT naming the first field that is missing or impossible.
  absl::Status Validate() const;
};

// "bf16" -> kBf16. Returns INVALID_ARGUMENT naming the
// choices.
absl::StatusOr<NumberFormat> ParseNumberFormat(absl::string_view name);

// F_pf as the paper has it: 2 x active parameters, no attention (section 3).
Flop LinearFlopPerToken(const ModelProfile& model);

// FLOP of attention of one new token to one context token in one layer without a window:
// 2 heads (head_dim + value_head_dim). MLA computes in the latent space (absorbed weights):
// 2 heads (latent_dim + latent_value_dim), with the latent read once for all heads.
Flop AttentionFlopPerPair(const ModelProfile& model);

// F_pf with attention, and without the tables a prefill does not multiply: mean FLOP per token of a
// prefill of `count` tokens after `first` cached ones, windows taken into account.
// REQUIRES: count > 0.
Flop PrefillFlopPerToken(const ModelProfile& model, Tokens first, Tokens count);

// Bytes one token leaves in one layer: 2 kv_heads head_dim numbers (keys and values), or the
// latent.
double KvBytesPerTokenAndLayer(const ModelProfile& model, NumberFormat kv);

// B_kv: bytes by which one more token of context makes the cache grow, far beyond any window: the
// layers without one. (Windowed layers keep `window` tokens whatever the context.)
double KvBytesPerToken(const ModelProfile& model, NumberFormat kv);

// KV bytes of one sequence of `context` tokens: windows end the growth of their layers.
Bytes KvBytes(const ModelProfile& model, NumberFormat kv, Tokens context);

Bytes WeightBytes(const ModelProfile& model, NumberFormat weights);

// κ_M = F_pf / B_kv in FLOP per byte (paper section 3). Infinite if every layer has a window.
double KappaModel(const ModelProfile& model, NumberFormat kv);

}  // namespace sluice
