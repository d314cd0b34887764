#include "backend/model/fingerprint.h"

#include <cstddef>
#include <memory>
#include <span>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "scheduler/base/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {
namespace {

constexpr size_t kSamples = 8;
constexpr size_t kSampleBytes = 1024;

class Hasher {
 public:
  Hasher() : state_(XXH3_createState()) {
    SLUICE_CHECK(state_ != nullptr);
    SLUICE_CHECK(XXH3_128bits_reset(state_.get()) == XXH_OK);
  }

  void Add(const void* data, size_t size) {
    SLUICE_CHECK(XXH3_128bits_update(state_.get(), data, size) == XXH_OK);
  }
  void Add(const std::string& text) { Add(text.data(), text.size()); }

  std::string Hex() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

std::string Describe(const ModelConfig& c) {
  const RopeConfig& r = c.rope;
  return absl::StrFormat(
      "%s l%d h%d i%d q%d k%d d%d v%d p%d w%d e%.17g t%d%d%d%d%d|rope %d %.17g %.17g %.17g %.17g "
      "%d %.17g %.17g %.17g|",
      c.architecture, c.layers, c.hidden, c.intermediate, c.heads, c.kv_heads, c.head_dim, c.vocab,
      c.max_position_embeddings, c.sliding_window, c.rms_norm_eps, c.tie_word_embeddings,
      c.qkv_bias, c.output_bias, c.mlp_bias, c.qk_norm, static_cast<int>(r.kind), r.theta, r.factor,
      r.low_freq_factor, r.high_freq_factor, r.original_max_position_embeddings, r.beta_fast,
      r.beta_slow, r.attention_factor);
}

void AddSamples(std::span<const std::byte> data, Hasher& hasher) {
  if (data.size() <= kSamples * kSampleBytes) {
    hasher.Add(data.data(), data.size());
    return;
  }
  for (size_t i = 0; i < kSamples; ++i) {
    const size_t at = (data.size() - kSampleBytes) * i / (kSamples - 1);  // first to last byte
    hasher.Add(data.data() + at, kSampleBytes);
  }
}

}  // namespace

std::string ModelFingerprint(const ModelConfig& config,
                             const std::map<std::string, const TensorView*>& tensors) {
  Hasher hasher;
  hasher.Add(Describe(config));
  for (const auto& [name, tensor] : tensors) {
    hasher.Add(absl::StrFormat("%s %s [%s]|", name, DTypeName(tensor->dtype),
                               absl::StrJoin(tensor->shape, ",")));
    AddSamples(tensor->data, hasher);
  }
  return hasher.Hex();
}

}  // namespace sluice
