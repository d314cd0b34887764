#include "backend/model/model_config.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backend/model/files.h"
#include "backend/model/json_fields.h"
#include "backend/model/rope.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

using nlohmann::json;

// Far beyond any model, yet small enough that no product of two or three overflows.
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHidden = 1'000'000;
constexpr int64_t kMaxIntermediate = 10'000'000;
constexpr int64_t kMaxHeads = 16'384;
constexpr int64_t kMaxHeadDim = 1'024;
constexpr int64_t kMaxVocab = 16'777'216;
constexpr int64_t kMaxPositions = int64_t{1} << 30;
constexpr Bytes kMaxConfigBytes = MiB(16);
// What Hugging Face takes for sliding_window where a Mistral or Qwen config does not say.
constexpr int64_t kDefaultSlidingWindow = 4096;

enum class Family { kLlama, kMistral, kQwen2, kQwen3 };
struct Architecture {
  const char* name;
  const char* model_type;
  Family family;
};
constexpr Architecture kArchitectures[] = {
    {"LlamaForCausalLM", "llama", Family::kLlama},
    {"MistralForCausalLM", "mistral", Family::kMistral},
    {"Qwen2ForCausalLM", "qwen2", Family::kQwen2},
    {"Qwen3ForCausalLM", "qwen3", Family::kQwen3},
};

std::string SupportedArchitectures() {
  return absl::StrJoin(kArchitectures, ", ", [](std::string* out, const Architecture& a) {
    absl::StrAppend(out, a.name);
  });
}

// Null if something is wrong with the field (which `fields` then knows).
const Architecture* ReadArchitecture(JsonFields& fields) {
  const json* list = fields.Find("architectures");
  if (list == nullptr) {
    fields.Fail("architectures", "is missing");
    return nullptr;
  }
  if (!list->is_array() || list->size() != 1 || !(*list)[0].is_string()) {
    fields.Fail("architectures", absl::StrCat(DescribeJson(*list), " is not a list of one string"));
    return nullptr;
  }
  for (const Architecture& known : kArchitectures) {
    if ((*list)[0].get_ref<const std::string&>() == known.name) return &known;
  }
  fields.Unsupported("architectures",
                     absl::StrCat(DescribeJson((*list)[0]), " is not supported; supported are ",
                                  SupportedArchitectures()));
  return nullptr;
}

int32_t Int32(int64_t value) { return static_cast<int32_t>(value); }

void ReadSizes(JsonFields& fields, ModelConfig& config) {
  config.layers = Int32(fields.Int("num_hidden_layers", std::nullopt, 1, kMaxLayers));
  config.hidden = Int32(fields.Int("hidden_size", std::nullopt, 1, kMaxHidden));
  config.intermediate = Int32(fields.Int("intermediate_size", std::nullopt, 1, kMaxIntermediate));
  config.heads = Int32(fields.Int("num_attention_heads", std::nullopt, 1, kMaxHeads));
  config.kv_heads = Int32(fields.Int("num_key_value_heads", config.heads, 1, kMaxHeads));
  config.vocab = Int32(fields.Int("vocab_size", std::nullopt, 1, kMaxVocab));
  config.max_position_embeddings =
      fields.Int("max_position_embeddings", std::nullopt, 1, kMaxPositions);
  config.rms_norm_eps = fields.Number("rms_norm_eps", config.rms_norm_eps, 1e-12, 0.1);
  if (!fields.status().ok()) return;

  if (config.heads % config.kv_heads != 0) {
    fields.Fail(
        "num_key_value_heads",
        absl::StrCat(config.kv_heads, " does not divide num_attention_heads ", config.heads));
  }
  if (!fields.Has("head_dim") && config.hidden % config.heads != 0) {
    fields.Fail("head_dim", absl::StrCat("is missing, and hidden_size ", config.hidden,
                                         " is no multiple of num_attention_heads ", config.heads));
  }
  config.head_dim = Int32(fields.Int("head_dim", config.hidden / config.heads, 1, kMaxHeadDim));
  if (config.head_dim > kMaxHeadDim || config.head_dim % 2 != 0) {
    fields.Fail("head_dim",
                absl::StrCat(config.head_dim, " is not an even number in [2, ", kMaxHeadDim, "]"));
  }
}

void ReadBiases(JsonFields& fields, Family family, ModelConfig& config) {
  const bool attention_bias = fields.Bool("attention_bias", false);
  const bool mlp_bias = fields.Bool("mlp_bias", false);
  switch (family) {
    case Family::kLlama:
      config.qkv_bias = config.output_bias = attention_bias;
      config.mlp_bias = mlp_bias;
      return;
    case Family::kQwen2:
      config.qkv_bias = true;
      break;
    case Family::kQwen3:
      config.qk_norm = true;
      config.qkv_bias = config.output_bias = attention_bias;
      break;
    case Family::kMistral:
      break;
  }
  if (attention_bias && family != Family::kQwen3) {
    fields.Unsupported("attention_bias",
                       absl::StrCat("true is not supported for ", config.architecture));
  }
  if (mlp_bias) {
    fields.Unsupported("mlp_bias", absl::StrCat("true is not supported for ", config.architecture));
  }
}

// True if any layer of a Qwen model looks at a window only.
bool QwenUsesWindow(JsonFields& fields) {
  bool window = fields.Bool("use_sliding_window", false);
  const json* types = fields.Find("layer_types");
  if (types == nullptr) return window;
  if (!types->is_array()) {
    fields.Fail("layer_types", absl::StrCat(DescribeJson(*types), " is not a list"));
    return false;
  }
  window = false;
  for (const json& type : *types) {
    if (type == "sliding_attention") {
      window = true;
    } else if (type != "full_attention") {
      fields.Unsupported("layer_types", absl::StrCat(DescribeJson(type), " is not supported"));
    }
  }
  return window;
}

// Attention here is never windowed. Within the window that makes no difference, so the context is
// cut to it.
void ReadSlidingWindow(JsonFields& fields, Family family, ModelConfig& config, const json& object) {
  bool window = false;
  if (family == Family::kMistral) {
    const auto it = object.find("sliding_window");  // null means none, absent means the default
    window = it == object.end() || !it->is_null();
  } else if (family != Family::kLlama) {
    window = QwenUsesWindow(fields);
  }
  if (!window) return;
  config.sliding_window = fields.Int("sliding_window", kDefaultSlidingWindow, 1, kMaxPositions);
  config.max_position_embeddings = std::min(config.max_position_embeddings, config.sliding_window);
}

void ReadUnsupportedFeatures(JsonFields& fields) {
  const std::string activation = fields.String("hidden_act", "silu");
  if (fields.status().ok() && activation != "silu") {
    fields.Unsupported("hidden_act",
                       absl::StrCat(DescribeJson(activation), " is not supported, only \"silu\""));
  }
  for (const char* name : {"quantization_config", "compression_config"}) {
    if (!fields.Has(name)) continue;
    fields.Unsupported(name,
                       "quantized checkpoints are not supported; use the bf16, f16 or f32 version");
  }
}

void ReadDtype(JsonFields& fields, ModelConfig& config) {
  const char* name = fields.Has("torch_dtype") ? "torch_dtype" : "dtype";  // newer files
  config.torch_dtype = fields.String(name, "");
  for (const char* known : {"", "bfloat16", "float16", "float32"}) {
    if (config.torch_dtype == known) return;
  }
  fields.Unsupported(name, absl::StrCat(DescribeJson(config.torch_dtype),
                                        " is not supported; supported are bfloat16, float16, "
                                        "float32"));
}

// An id outside the vocabulary can never come up; tiny test models inherit such ids. -1 means none.
void ReadSpecialIds(JsonFields& fields, ModelConfig& config) {
  const auto in_vocabulary = [&](int64_t id) { return id >= 0 && id < config.vocab; };
  constexpr int64_t kMaxId = INT32_MAX;
  if (fields.Has("eos_token_id")) {
    config.eos_ids.clear();
    for (const int64_t id : fields.IntOrList("eos_token_id", -1, kMaxId)) {
      const TokenId token = Int32(id);
      const bool known =
          std::find(config.eos_ids.begin(), config.eos_ids.end(), token) != config.eos_ids.end();
      if (in_vocabulary(id) && !known) config.eos_ids.push_back(token);
    }
  }
  const int64_t bos = fields.Int("bos_token_id", config.bos_id, -1, kMaxId);
  config.bos_id = in_vocabulary(bos) ? Int32(bos) : -1;
}

std::string GenerationWhere(const std::string& where) {
  constexpr char kName[] = "config.json";
  if (!absl::EndsWith(where, kName)) return absl::StrCat(where, " (generation config)");
  return absl::StrCat(where.substr(0, where.size() - (sizeof(kName) - 1)),
                      "generation_config.json");
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& config_json,
                                             const std::string& generation_json,
                                             const std::string& where) {
  SLUICE_ASSIGN_OR_RETURN(const json object, ParseJsonObject(config_json, where));
  JsonFields fields(object, where);
  const Architecture* architecture = ReadArchitecture(fields);
  if (architecture == nullptr) return fields.status();

  ModelConfig config;
  config.architecture = architecture->name;
  config.model_type = fields.String("model_type", architecture->model_type);
  ReadUnsupportedFeatures(fields);
  ReadSizes(fields, config);
  ReadBiases(fields, architecture->family, config);
  config.tie_word_embeddings = fields.Bool("tie_word_embeddings", false);
  ReadDtype(fields, config);
  ReadSpecialIds(fields, config);
  SLUICE_RETURN_IF_ERROR(fields.status());
  SLUICE_ASSIGN_OR_RETURN(config.rope,
                          ParseRopeConfig(object, config.max_position_embeddings, where));
  // After rope: the frequencies depend on the length the file states, not on the window.
  ReadSlidingWindow(fields, architecture->family, config, object);
  SLUICE_RETURN_IF_ERROR(fields.status());

  if (!generation_json.empty()) {
    const std::string generation_where = GenerationWhere(where);
    SLUICE_ASSIGN_OR_RETURN(const json generation,
                            ParseJsonObject(generation_json, generation_where));
    JsonFields generation_fields(generation, generation_where);
    ReadSpecialIds(generation_fields, config);
    SLUICE_RETURN_IF_ERROR(generation_fields.status());
  }
  return config;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& dir) {
  std::error_code error;
  if (!std::filesystem::exists(dir, error)) {
    return absl::NotFoundError(absl::StrCat(dir, ": model directory does not exist"));
  }
  if (!std::filesystem::is_directory(dir, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(dir,
                     ": is not a directory; want a Hugging Face model directory with "
                     "config.json and safetensors"));
  }
  const std::string path = absl::StrCat(dir, "/config.json");
  if (!FileExists(path)) {
    return absl::NotFoundError(
        absl::StrCat(dir, ": has no config.json", DescribeOtherWeights(dir)));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::string config, ReadSmallFile(path, kMaxConfigBytes));
  const std::string generation_path = absl::StrCat(dir, "/generation_config.json");
  std::string generation;
  if (FileExists(generation_path)) {
    SLUICE_ASSIGN_OR_RETURN(generation, ReadSmallFile(generation_path, kMaxConfigBytes));
    if (generation.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(generation_path, ": is empty"));
    }
  }
  return ParseModelConfig(config, generation, path);
}

}  // namespace sluice
