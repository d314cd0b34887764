// Hugging Face model directories with random weights, of any supported architecture and shape: what
// backend tests and benchmarks run on.
//
// Weights are scaled so that activations stay near 1 and logits have a standard deviation of about
// 3: greedy choices are clear, attention is neither uniform nor one-hot. A tensor's values depend
// on the seed and its name only: the same spec in another dtype is the same model rounded, and
// shards change nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "tests/support/temp_dir.h"

namespace sluice::testing {

struct RandomModelSpec {
  std::string architecture = "LlamaForCausalLM";
  int32_t layers = 2;
  int32_t hidden = 32;
  int32_t intermediate = 64;
  int32_t heads = 4;
  int32_t kv_heads = 2;
  int32_t head_dim = 0;  // 0: hidden / heads
  int32_t vocab = 96;
  int64_t max_position_embeddings = 512;
  double rms_norm_eps = 1e-5;
  RopeConfig rope = {};
  bool tied = false;
  bool attention_bias = false;        // Llama, Qwen3. (Qwen2 always has q, k, v biases.)
  bool mlp_bias = false;              // Llama
  std::vector<TokenId> eos_ids = {};  // none: generation never stops by itself
  DType dtype = DType::kF32;
  int shards = 1;
  uint64_t seed = 1;
};

// Positions stretched fourfold beyond 128, in the manner of `kind`.
RopeConfig ScaledRope(RopeKind kind);

// Writes config.json and model.safetensors (or `shards` shards and their index) into the existing
// directory `dir`. Returns INTERNAL if writing fails (disk full).
// REQUIRES: a spec that ParseModelConfig accepts; shards >= 1.
absl::Status WriteRandomModel(const RandomModelSpec& spec, const std::string& dir);

// The config.json of `spec`.
std::string RandomModelConfigJson(const RandomModelSpec& spec);

// A random model on disk, and open. Crashes if that fails: a test cannot go on without.
//
//   RandomModel model({.heads = 8, .kv_heads = 1, .dtype = DType::kBF16});
//   ReferenceModel reference(model.config(), model.checkpoint());
//
// Thread-compatible.
class RandomModel {
 public:
  explicit RandomModel(const RandomModelSpec& spec);

  const std::string& dir() const { return dir_.path(); }
  const ModelConfig& config() const { return config_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }

 private:
  TempDir dir_;
  ModelConfig config_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

// `count` tokens in [0, vocab), the same for the same seed.
std::vector<TokenId> RandomTokens(int count, int32_t vocab, uint64_t seed);

}  // namespace sluice::testing
