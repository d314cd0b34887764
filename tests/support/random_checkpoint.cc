#include "tests/support/random_checkpoint.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice::testing {
namespace {

using nlohmann::json;

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  double mean = 0;
  double stddev = 1;

  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
};

// splitmix64 (Steele, Lea, Flood 2014): one multiply-xorshift chain per draw, any seed is good.
class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // Nearly normal with variance 1: the sum of four uniform 16-bit numbers (variance 1/12 each).
  float Normal() {
    const uint64_t bits = Next();
    const auto sum = static_cast<int32_t>((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                          ((bits >> 32) & 0xffff) + (bits >> 48));
    constexpr float kScale = 1.7320508f / 65536.0f;
    return static_cast<float>(sum - 2 * 65535) * kScale;
  }

 private:
  uint64_t state_;
};

uint64_t HashName(const std::string& name) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

uint16_t ToBF16(float value) {  // finite values only
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

uint16_t ToF16(float value) {  // finite values only; round to nearest even
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude < (113u << 23)) {  // below 2^-14: subnormal, in units of 2^-24
    const float units = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24f);
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(units));
  }
  const uint32_t rounded = (magnitude + 0xfff + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
  return static_cast<uint16_t>(sign | std::min(rounded, 0x7c00u));
}

const char* SafetensorsDType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
  }
  return "?";
}

const char* TorchDType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
  }
  return "?";
}

int64_t HeadDim(const RandomModelSpec& spec) {
  return spec.head_dim != 0 ? spec.head_dim : spec.hidden / spec.heads;
}

TensorSpec Linear(std::string name, int64_t out, int64_t in, double gain = 1) {
  return {std::move(name), {out, in}, 0, gain / std::sqrt(static_cast<double>(in))};
}
TensorSpec Norm(std::string name, int64_t size) { return {std::move(name), {size}, 1, 0.1}; }
TensorSpec Bias(std::string name, int64_t size) { return {std::move(name), {size}, 0, 0.3}; }

void AddLayer(const RandomModelSpec& spec, int32_t index, std::vector<TensorSpec>& out) {
  const std::string p = absl::StrCat("model.layers.", index, ".");
  const int64_t head_dim = HeadDim(spec);
  const int64_t q = spec.heads * head_dim;
  const int64_t kv = spec.kv_heads * head_dim;
  const bool qkv_bias = spec.attention_bias || spec.architecture == "Qwen2ForCausalLM";
  out.push_back(Norm(p + "input_layernorm.weight", spec.hidden));
  out.push_back(Linear(p + "self_attn.q_proj.weight", q, spec.hidden));
  out.push_back(Linear(p + "self_attn.k_proj.weight", kv, spec.hidden));
  out.push_back(Linear(p + "self_attn.v_proj.weight", kv, spec.hidden));
  out.push_back(Linear(p + "self_attn.o_proj.weight", spec.hidden, q));
  if (qkv_bias) {
    out.push_back(Bias(p + "self_attn.q_proj.bias", q));
    out.push_back(Bias(p + "self_attn.k_proj.bias", kv));
    out.push_back(Bias(p + "self_attn.v_proj.bias", kv));
  }
  if (spec.attention_bias) out.push_back(Bias(p + "self_attn.o_proj.bias", spec.hidden));
  if (spec.architecture == "Qwen3ForCausalLM") {
    out.push_back(Norm(p + "self_attn.q_norm.weight", head_dim));
    out.push_back(Norm(p + "self_attn.k_norm.weight", head_dim));
  }
  out.push_back(Norm(p + "post_attention_layernorm.weight", spec.hidden));
  out.push_back(Linear(p + "mlp.gate_proj.weight", spec.intermediate, spec.hidden));
  out.push_back(Linear(p + "mlp.up_proj.weight", spec.intermediate, spec.hidden));
  out.push_back(Linear(p + "mlp.down_proj.weight", spec.hidden, spec.intermediate));
  if (!spec.mlp_bias) return;
  out.push_back(Bias(p + "mlp.gate_proj.bias", spec.intermediate));
  out.push_back(Bias(p + "mlp.up_proj.bias", spec.intermediate));
  out.push_back(Bias(p + "mlp.down_proj.bias", spec.hidden));
}

std::vector<TensorSpec> ListTensors(const RandomModelSpec& spec) {
  constexpr double kLogitGain = 3;
  std::vector<TensorSpec> out;
  TensorSpec embedding = Linear("model.embed_tokens.weight", spec.vocab, spec.hidden, kLogitGain);
  if (!spec.tied) embedding.stddev = 1;
  out.push_back(embedding);
  for (int32_t i = 0; i < spec.layers; ++i) AddLayer(spec, i, out);
  out.push_back(Norm("model.norm.weight", spec.hidden));
  if (!spec.tied) out.push_back(Linear("lm_head.weight", spec.vocab, spec.hidden, kLogitGain));
  return out;
}

// A FILE that closes itself; remembers nothing, the caller checks.
using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

absl::Status WriteBytes(std::FILE* file, const void* data, size_t size, const std::string& path) {
  if (std::fwrite(data, 1, size, file) == size) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(path, ": cannot write"));
}

absl::Status WriteTensor(const TensorSpec& tensor, DType dtype, uint64_t seed, std::FILE* file,
                         const std::string& path) {
  constexpr int64_t kChunk = 1 << 16;
  SplitMix random(SplitMix(seed ^ HashName(tensor.name)).Next());
  const auto mean = static_cast<float>(tensor.mean);
  const auto stddev = static_cast<float>(tensor.stddev);
  std::vector<float> floats(kChunk);
  std::vector<uint16_t> halves(dtype == DType::kF32 ? 0 : kChunk);
  for (int64_t left = tensor.elements(); left > 0; left -= kChunk) {
    const auto n = static_cast<size_t>(std::min(left, kChunk));
    for (size_t i = 0; i < n; ++i) floats[i] = mean + stddev * random.Normal();
    if (dtype == DType::kF32) {
      SLUICE_RETURN_IF_ERROR(WriteBytes(file, floats.data(), n * sizeof(float), path));
      continue;
    }
    for (size_t i = 0; i < n; ++i) {
      halves[i] = dtype == DType::kBF16 ? ToBF16(floats[i]) : ToF16(floats[i]);
    }
    SLUICE_RETURN_IF_ERROR(WriteBytes(file, halves.data(), n * sizeof(uint16_t), path));
  }
  return absl::OkStatus();
}

absl::Status WriteSafetensors(const std::vector<TensorSpec>& tensors, DType dtype, uint64_t seed,
                              const std::string& path) {
  json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    const int64_t end = offset + tensor.elements() * ElementSize(dtype);
    header[tensor.name] = {{"dtype", SafetensorsDType(dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the data is aligned
  unsigned char length[8];
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(text.size() >> (8 * i));

  const File file(std::fopen(path.c_str(), "wb"), &std::fclose);
  if (file == nullptr) return absl::InternalError(absl::StrCat(path, ": cannot create"));
  SLUICE_RETURN_IF_ERROR(WriteBytes(file.get(), length, sizeof(length), path));
  SLUICE_RETURN_IF_ERROR(WriteBytes(file.get(), text.data(), text.size(), path));
  for (const TensorSpec& tensor : tensors) {
    SLUICE_RETURN_IF_ERROR(WriteTensor(tensor, dtype, seed, file.get(), path));
  }
  if (std::fflush(file.get()) == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(path, ": cannot write"));
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  const File file(std::fopen(path.c_str(), "wb"), &std::fclose);
  if (file == nullptr) return absl::InternalError(absl::StrCat(path, ": cannot create"));
  SLUICE_RETURN_IF_ERROR(WriteBytes(file.get(), text.data(), text.size(), path));
  if (std::fflush(file.get()) == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(path, ": cannot write"));
}

absl::Status WriteShards(const RandomModelSpec& spec, const std::vector<TensorSpec>& tensors,
                         const std::string& dir) {
  std::vector<std::vector<TensorSpec>> shards(static_cast<size_t>(spec.shards));
  for (size_t i = 0; i < tensors.size(); ++i) shards[i % shards.size()].push_back(tensors[i]);
  json weight_map = json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name =
        absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
    for (const TensorSpec& tensor : shards[i]) weight_map[tensor.name] = name;
    SLUICE_RETURN_IF_ERROR(
        WriteSafetensors(shards[i], spec.dtype, spec.seed, absl::StrCat(dir, "/", name)));
  }
  return WriteText(absl::StrCat(dir, "/model.safetensors.index.json"),
                   json{{"weight_map", weight_map}}.dump(2));
}

json RopeScalingJson(const RopeConfig& rope) {
  switch (rope.kind) {
    case RopeKind::kDefault:
      return nullptr;
    case RopeKind::kLinear:
      return {{"rope_type", "linear"}, {"factor", rope.factor}};
    case RopeKind::kLlama3:
      return {{"rope_type", "llama3"},
              {"factor", rope.factor},
              {"low_freq_factor", rope.low_freq_factor},
              {"high_freq_factor", rope.high_freq_factor},
              {"original_max_position_embeddings", rope.original_max_position_embeddings}};
    case RopeKind::kYarn:
      return {{"rope_type", "yarn"},
              {"factor", rope.factor},
              {"beta_fast", rope.beta_fast},
              {"beta_slow", rope.beta_slow},
              {"attention_factor", rope.attention_factor},
              {"original_max_position_embeddings", rope.original_max_position_embeddings}};
  }
  return nullptr;
}

std::string ModelType(const std::string& architecture) {
  std::string type = architecture.substr(0, architecture.find("For"));
  for (char& c : type) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return type;
}

}  // namespace

std::string RandomModelConfigJson(const RandomModelSpec& spec) {
  json config = {{"architectures", {spec.architecture}},
                 {"model_type", ModelType(spec.architecture)},
                 {"num_hidden_layers", spec.layers},
                 {"hidden_size", spec.hidden},
                 {"intermediate_size", spec.intermediate},
                 {"num_attention_heads", spec.heads},
                 {"num_key_value_heads", spec.kv_heads},
                 {"head_dim", HeadDim(spec)},
                 {"vocab_size", spec.vocab},
                 {"max_position_embeddings", spec.max_position_embeddings},
                 {"rms_norm_eps", spec.rms_norm_eps},
                 {"hidden_act", "silu"},
                 {"rope_theta", spec.rope.theta},
                 {"rope_scaling", RopeScalingJson(spec.rope)},
                 {"tie_word_embeddings", spec.tied},
                 {"attention_bias", spec.attention_bias},
                 {"mlp_bias", spec.mlp_bias},
                 {"sliding_window", nullptr},
                 {"torch_dtype", TorchDType(spec.dtype)}};
  if (!spec.eos_ids.empty()) config["eos_token_id"] = spec.eos_ids;
  return config.dump(2);
}

RopeConfig ScaledRope(RopeKind kind) {
  RopeConfig rope;
  rope.kind = kind;
  rope.factor = 4.0;
  rope.original_max_position_embeddings = 128;
  if (kind == RopeKind::kYarn) rope.attention_factor = 0.1 * std::log(4.0) + 1.0;
  return rope;
}

absl::Status WriteRandomModel(const RandomModelSpec& spec, const std::string& dir) {
  SLUICE_CHECK(spec.shards >= 1);
  SLUICE_RETURN_IF_ERROR(WriteText(absl::StrCat(dir, "/config.json"), RandomModelConfigJson(spec)));
  const std::vector<TensorSpec> tensors = ListTensors(spec);
  if (spec.shards > 1) return WriteShards(spec, tensors, dir);
  return WriteSafetensors(tensors, spec.dtype, spec.seed, absl::StrCat(dir, "/model.safetensors"));
}

namespace {

template <class T>
T ValueOrDie(absl::StatusOr<T> value) {
  if (!value.ok()) std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  SLUICE_CHECK(value.ok());
  return *std::move(value);
}

}  // namespace

RandomModel::RandomModel(const RandomModelSpec& spec) {
  const absl::Status written = WriteRandomModel(spec, dir_.path());
  SLUICE_CHECK(written.ok());
  config_ = ValueOrDie(LoadModelConfig(dir_.path()));
  checkpoint_ = ValueOrDie(Checkpoint::Open(dir_.path(), config_));
}

std::vector<TokenId> RandomTokens(int count, int32_t vocab, uint64_t seed) {
  SplitMix random(seed);
  std::vector<TokenId> out(static_cast<size_t>(count));
  for (TokenId& token : out) {
    token = static_cast<TokenId>(random.Next() % static_cast<uint64_t>(vocab));
  }
  return out;
}

}  // namespace sluice::testing
