#include "service/profiles/model_config_profile.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/model/json_fields.h"
#include "scheduler/base/status_macros.h"
#include "service/config/suggest.h"
#include "service/profiles/parameter_count.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr int64_t kMostLayers = 1024;
constexpr int64_t kMostHeads = 4096;
constexpr int64_t kMostDim = 1'000'000;
constexpr int64_t kMostContext = 1'000'000'000;

enum class Windows { kNone, kAllLayers, kUpperLayers, kPattern };

// What a family's configuration class says where a file is silent, and what its layers look like.
struct Family {
  const char* model_type;
  std::optional<int64_t> head_dim = std::nullopt;  // nullopt: hidden_size / num_attention_heads
  bool kv_heads_default_to_heads = false;
  bool tied = false;
  bool qkv_bias = false;
  bool qk_norm = false;
  bool latent = false;
  bool experts = false;
  Windows windows = Windows::kNone;
};

constexpr Family kFamilies[] = {
    {.model_type = "llama", .kv_heads_default_to_heads = true},
    {.model_type = "mistral", .windows = Windows::kAllLayers},
    {.model_type = "qwen2", .qkv_bias = true, .windows = Windows::kUpperLayers},
    {.model_type = "qwen3", .head_dim = 128, .qk_norm = true, .windows = Windows::kUpperLayers},
    {.model_type = "qwen3_moe",
     .head_dim = 128,
     .qk_norm = true,
     .experts = true,
     .windows = Windows::kUpperLayers},
    {.model_type = "deepseek_v2", .latent = true, .experts = true},
    {.model_type = "deepseek_v3", .latent = true, .experts = true},
    {.model_type = "gpt_oss",
     .head_dim = 64,
     .qkv_bias = true,
     .experts = true,
     .windows = Windows::kPattern},
    {.model_type = "gemma3_text",
     .head_dim = 256,
     .tied = true,
     .qk_norm = true,
     .windows = Windows::kPattern},
};

bool Is(const Family& family, absl::string_view type) { return family.model_type == type; }

const Family* FindFamily(JsonFields& fields) {
  const std::string type = fields.String("model_type", std::nullopt);
  if (!fields.status().ok()) return nullptr;
  std::vector<std::string> known;
  for (const Family& family : kFamilies) {
    if (type == family.model_type) return &family;
    known.push_back(family.model_type);
  }
  std::string names;
  for (const std::string& name : known) absl::StrAppend(&names, names.empty() ? "" : ", ", name);
  fields.Unsupported("model_type",
                     absl::StrCat("\"", type, "\" is not a known family",
                                  DidYouMean(type, known, ""), "; known: ", names, ", gemma3"));
  return nullptr;
}

void ReadHeads(JsonFields& in, const Family& family, DecoderShape& s) {
  s.heads = in.Int("num_attention_heads", std::nullopt, 1, kMostHeads);
  const auto kv_default =
      family.kv_heads_default_to_heads ? std::optional<int64_t>(s.heads) : std::nullopt;
  s.kv_heads = in.Int("num_key_value_heads", kv_default, 1, kMostHeads);
  if (s.heads % s.kv_heads != 0) {
    in.Fail("num_key_value_heads",
            absl::StrCat(s.kv_heads, " does not divide num_attention_heads, ", s.heads));
  }
  if (!in.Has("head_dim") && !family.head_dim.has_value() && s.hidden % s.heads != 0) {
    in.Fail("head_dim", absl::StrCat("is missing, and num_attention_heads, ", s.heads,
                                     ", does not divide hidden_size, ", s.hidden));
  }
  s.head_dim = in.Int(
      "head_dim", family.head_dim.value_or(std::max<int64_t>(1, s.hidden / s.heads)), 1, kMostDim);
  const bool bias = in.Bool("attention_bias", Is(family, "gpt_oss"));
  s.qkv_bias = family.qkv_bias || bias;
  s.output_bias = bias;
  s.qk_norm = family.qk_norm;
  s.sinks = Is(family, "gpt_oss");
}

void ReadLatent(JsonFields& in, DecoderShape& s) {
  s.heads = in.Int("num_attention_heads", std::nullopt, 1, kMostHeads);
  s.kv_heads = s.heads;
  // Null means no compression; the file must say so, because the class's default is to compress.
  s.query_rank = in.Int("q_lora_rank", 0, 0, kMostDim);
  s.kv_rank = in.Int("kv_lora_rank", std::nullopt, 1, kMostDim);
  s.nope_dim = in.Int("qk_nope_head_dim", std::nullopt, 1, kMostDim);
  s.rope_dim = in.Int("qk_rope_head_dim", std::nullopt, 1, kMostDim);
  s.value_dim = in.Int("v_head_dim", std::nullopt, 1, kMostDim);
  s.head_dim = s.nope_dim + s.rope_dim;
}

// Layers without experts among `layers`, where a list or a stride says so.
int64_t DenseLayers(JsonFields& in, const Family& family, int64_t layers) {
  if (!family.experts) return layers;
  if (family.latent) return in.Int("first_k_dense_replace", std::nullopt, 0, layers);
  if (!Is(family, "qwen3_moe")) return 0;
  const int64_t stride = in.Int("decoder_sparse_step", std::nullopt, 1, kMostLayers);
  const std::vector<int64_t> listed = in.IntOrList("mlp_only_layers", 0, kMostLayers);
  int64_t dense = 0;
  for (int64_t i = 0; i < layers; ++i) {
    const bool in_list = std::find(listed.begin(), listed.end(), i) != listed.end();
    if (in_list || (i + 1) % stride != 0) ++dense;
  }
  return dense;
}

void ReadExperts(JsonFields& in, const Family& family, DecoderShape& s) {
  const bool oss = Is(family, "gpt_oss");
  const char* count = family.latent ? "n_routed_experts"
                      : oss         ? "num_local_experts"
                                    : "num_experts";
  s.experts = in.Int(count, std::nullopt, 1, kMostDim);
  s.experts_per_token = in.Int("num_experts_per_tok", std::nullopt, 1, s.experts);
  s.expert_intermediate =
      in.Int(oss ? "intermediate_size" : "moe_intermediate_size", std::nullopt, 1, kMostDim);
  if (family.latent) {
    // Absent or null: none.
    s.shared_experts = in.Int("n_shared_experts", 0, 0, kMostDim);
    s.router_bias = Is(family, "deepseek_v3");
    s.active_without_embedding = true;
    if (in.Int("moe_layer_freq", 1, 1, kMostLayers) != 1) {
      in.Unsupported("moe_layer_freq", "only 1 is supported");
    }
  }
  if (oss) s.router_bias = s.mlp_bias = s.active_without_embedding = true;
}

void ReadMlp(JsonFields& in, const Family& family, DecoderShape& s) {
  s.dense_layers = DenseLayers(in, family, s.layers);
  if (family.experts) ReadExperts(in, family, s);
  if (s.dense_layers > 0) {
    s.intermediate = in.Int("intermediate_size", std::nullopt, 1, kMostDim);
  }
  if (Is(family, "llama")) s.mlp_bias = in.Bool("mlp_bias", false);
}

DecoderShape ReadShape(JsonFields& in, const Family& family) {
  DecoderShape s;
  const bool gemma = Is(family, "gemma3_text");
  s.layers = in.Int("num_hidden_layers", std::nullopt, 1, kMostLayers);
  s.hidden = in.Int("hidden_size", std::nullopt, 1, kMostDim);
  s.vocabulary =
      in.Int("vocab_size", gemma ? std::optional<int64_t>(262208) : std::nullopt, 1, kMostContext);
  s.tied_embeddings = in.Bool("tie_word_embeddings", family.tied);
  s.norms_per_layer = gemma ? 4 : 2;
  if (family.latent) {
    ReadLatent(in, s);
  } else {
    ReadHeads(in, family, s);
  }
  ReadMlp(in, family, s);
  return s;
}

// Windowed layers by layer_types, which newer files have: one name per layer.
std::optional<int64_t> ListedWindows(JsonFields& in, int64_t layers) {
  const json* types = in.Find("layer_types");
  if (types == nullptr) return std::nullopt;
  if (!types->is_array() || static_cast<int64_t>(types->size()) != layers) {
    in.Fail("layer_types", absl::StrCat(DescribeJson(*types), " is not a list of ", layers,
                                        " names, one per layer"));
    return 0;
  }
  int64_t windowed = 0;
  for (const json& type : *types) {
    if (type == "sliding_attention") {
      ++windowed;
    } else if (type != "full_attention") {
      in.Fail("layer_types",
              absl::StrCat(DescribeJson(type), " is neither sliding_attention nor full_attention"));
    }
  }
  return windowed;
}

int64_t WindowedLayers(JsonFields& in, const Family& family, int64_t layers) {
  switch (family.windows) {
    case Windows::kNone:
      return 0;
    case Windows::kAllLayers:
      return in.Has("sliding_window") ? layers : 0;
    case Windows::kUpperLayers:
      if (!in.Bool("use_sliding_window", false)) return 0;
      if (const auto listed = ListedWindows(in, layers); listed.has_value()) return *listed;
      return layers - in.Int("max_window_layers", std::nullopt, 0, layers);
    case Windows::kPattern:
      break;
  }
  if (const auto listed = ListedWindows(in, layers); listed.has_value()) return *listed;
  if (Is(family, "gpt_oss")) return (layers + 1) / 2;  // every other one, the first included
  const int64_t pattern = in.Int("sliding_window_pattern", 6, 1, kMostLayers);
  return layers - layers / pattern;  // the last of each group sees everything
}

void ReadContext(JsonFields& in, const Family& family, ModelProfile& m) {
  const bool gemma = Is(family, "gemma3_text");
  m.max_context = in.Int("max_position_embeddings",
                         gemma ? std::optional<int64_t>(131072) : std::nullopt, 1, kMostContext);
  m.windowed_layers = WindowedLayers(in, family, m.layers);
  if (m.windowed_layers > 0) m.window = in.Int("sliding_window", std::nullopt, 1, kMostContext);
}

// Format by quantization_config. `top` is the whole file: nested configs state their type there.
std::optional<NumberFormat> QuantizedFormat(JsonFields& top, const std::string& where) {
  const json* quantization = top.Find("quantization_config");
  if (quantization == nullptr) return std::nullopt;
  if (!quantization->is_object()) {
    top.Fail("quantization_config", absl::StrCat(DescribeJson(*quantization), " is not an object"));
    return std::nullopt;
  }
  JsonFields in(*quantization, where, "quantization_config.");
  const std::string method = in.String("quant_method", std::nullopt);
  const bool by_bits = method == "gptq" || method == "awq";
  const int64_t bits = by_bits ? in.Int("bits", std::nullopt, 2, 8) : 0;
  if (!in.status().ok()) {
    top.Fail("quantization_config", std::string(in.status().message()));
  } else if (method == "fp8") {
    return NumberFormat::kFp8;
  } else if (method == "mxfp4") {
    return NumberFormat::kFp4;
  } else if (bits == 4 || bits == 8) {
    return bits == 4 ? NumberFormat::kInt4 : NumberFormat::kInt8;
  } else {
    top.Unsupported(
        "quantization_config",
        absl::StrCat("quant_method \"", method,
                     "\" is not known; known: fp8, mxfp4, gptq and awq with 4 or 8 bits"));
  }
  return std::nullopt;
}

NumberFormat ReadFormat(JsonFields& top, const std::string& where) {
  if (const auto quantized = QuantizedFormat(top, where); quantized.has_value()) return *quantized;
  const char* key = top.Has("dtype") ? "dtype" : "torch_dtype";
  const std::string type = top.String(key, std::nullopt);
  if (type == "float32") return NumberFormat::kF32;
  if (type != "bfloat16" && type != "float16") {
    top.Fail(key, absl::StrCat("\"", type, "\" is not bfloat16, float16 or float32"));
  }
  return NumberFormat::kBf16;
}

// "/models/llama/config.json" -> "llama".
std::string NameFrom(const std::string& where) {
  const std::filesystem::path path(where);
  const std::string folder = path.parent_path().filename().string();
  return path.filename() == "config.json" && !folder.empty() ? folder : path.stem().string();
}

ModelProfile MakeProfile(const DecoderShape& s) {
  ModelProfile m;
  m.layers = s.layers;
  m.hidden = s.hidden;
  m.heads = s.heads;
  m.kv_heads = s.kv_heads;
  m.head_dim = s.head_dim;
  m.value_head_dim = s.kv_rank > 0 ? s.value_dim : s.head_dim;
  m.latent_dim = s.kv_rank + s.rope_dim;
  m.latent_value_dim = s.kv_rank;
  const ParameterCounts counts = CountParameters(s);
  m.total_parameters = counts.total;
  m.active_parameters = counts.active;
  m.prefill_parameters = counts.prefill;
  m.streamed_parameters = counts.streamed;
  return m;
}

// The object with the decoder's fields: text_config of multimodal files, else the whole.
absl::StatusOr<const json*> TextPart(const json& config, const std::string& where) {
  const auto type = config.find("model_type");
  if (type == config.end() || *type != "gemma3") return &config;
  const auto text = config.find("text_config");
  if (text != config.end() && text->is_object()) return &*text;
  return absl::InvalidArgumentError(absl::StrCat(
      where, ": text_config: ", text == config.end() ? "is missing" : "is not an object",
      "; a gemma3 config keeps its decoder there"));
}

}  // namespace

absl::StatusOr<ModelProfile> ModelFromConfigJson(const std::string& text,
                                                 const std::string& where) {
  SLUICE_ASSIGN_OR_RETURN(const json config, ParseJsonObject(text, where));
  SLUICE_ASSIGN_OR_RETURN(const json* part, TextPart(config, where));
  JsonFields top(config, where);
  JsonFields in(*part, where, part == &config ? "" : "text_config.");
  const Family* family = FindFamily(in);
  if (family == nullptr) return in.status();
  const DecoderShape shape = ReadShape(in, *family);
  SLUICE_RETURN_IF_ERROR(in.status());
  ModelProfile m = MakeProfile(shape);
  ReadContext(in, *family, m);
  SLUICE_RETURN_IF_ERROR(in.status());
  m.weights = ReadFormat(top, where);
  SLUICE_RETURN_IF_ERROR(top.status());
  m.name = NameFrom(where);
  m.source = absl::StrCat("computed from ", where);
  if (const absl::Status valid = m.Validate(); !valid.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", valid.message()));
  }
  return m;
}

}  // namespace sluice
