// Everything that can be wrong with a config.json: code and message of each.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backend/model/model_config.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

json Good() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 64},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"num_hidden_layers", 2},
          {"intermediate_size", 96},
          {"vocab_size", 100},
          {"max_position_embeddings", 1024},
          {"rms_norm_eps", 1e-5},
          {"hidden_act", "silu"}};
}

struct BadCase {
  const char* change;  // JSON merged over Good(); null removes a field (RFC 7386)
  absl::StatusCode code;
  const char* message;
};

constexpr BadCase kBadCases[] = {
    // Missing.
    {R"({"architectures": null})", kInvalid, "architectures: is missing"},
    {R"({"hidden_size": null})", kInvalid, "hidden_size: is missing"},
    {R"({"num_hidden_layers": null})", kInvalid, "num_hidden_layers: is missing"},
    {R"({"num_attention_heads": null})", kInvalid, "num_attention_heads: is missing"},
    {R"({"intermediate_size": null})", kInvalid, "intermediate_size: is missing"},
    {R"({"vocab_size": null})", kInvalid, "vocab_size: is missing"},
    {R"({"max_position_embeddings": null})", kInvalid, "max_position_embeddings: is missing"},
    // Of another type.
    {R"({"architectures": "LlamaForCausalLM"})", kInvalid, "is not a list of one string"},
    {R"({"architectures": []})", kInvalid, "an empty array is not a list of one string"},
    {R"({"architectures": [3]})", kInvalid, "is not a list of one string"},
    {R"({"hidden_size": "64"})", kInvalid, "hidden_size: \"64\" is not an integer"},
    {R"({"hidden_size": 64.5})", kInvalid, "hidden_size: 64.5 is not an integer"},
    {R"({"num_hidden_layers": [2]})", kInvalid, "num_hidden_layers: an array is not an integer"},
    {R"({"vocab_size": true})", kInvalid, "vocab_size: true is not an integer"},
    {R"({"rms_norm_eps": "tiny"})", kInvalid, "rms_norm_eps: \"tiny\" is not a number"},
    {R"({"tie_word_embeddings": 1})", kInvalid, "tie_word_embeddings: 1 is not true or false"},
    {R"({"attention_bias": "no"})", kInvalid, "attention_bias: \"no\" is not true or false"},
    {R"({"mlp_bias": 0})", kInvalid, "mlp_bias: 0 is not true or false"},
    {R"({"hidden_act": 5})", kInvalid, "hidden_act: 5 is not a string"},
    {R"({"torch_dtype": 16})", kInvalid, "torch_dtype: 16 is not a string"},
    {R"({"model_type": 1})", kInvalid, "model_type: 1 is not a string"},
    {R"({"rope_scaling": "yarn"})", kInvalid, "rope_scaling: \"yarn\" is not an object"},
    {R"({"rope_theta": "1e4"})", kInvalid, "rope_theta: \"1e4\" is not a number"},
    {R"({"eos_token_id": "</s>"})", kInvalid, "eos_token_id: \"</s>\" is not an integer"},
    {R"({"eos_token_id": [1, "2"]})", kInvalid, "eos_token_id: \"2\" is not an integer"},
    // Out of range.
    {R"({"num_hidden_layers": 0})", kInvalid, "num_hidden_layers: 0 is not in [1, 1024]"},
    {R"({"num_hidden_layers": 1025})", kInvalid, "num_hidden_layers: 1025 is not in"},
    {R"({"num_hidden_layers": -1})", kInvalid, "num_hidden_layers: -1 is not in"},
    {R"({"hidden_size": 0})", kInvalid, "hidden_size: 0 is not in [1, 1000000]"},
    {R"({"hidden_size": 18446744073709551615})", kInvalid,
     "hidden_size: 18446744073709551615 is not in"},
    {R"({"hidden_size": -9223372036854775808})", kInvalid, "hidden_size: -9223372036854775808"},
    {R"({"intermediate_size": -96})", kInvalid, "intermediate_size: -96 is not in"},
    {R"({"intermediate_size": 100000000})", kInvalid, "intermediate_size: 100000000 is not in"},
    {R"({"num_attention_heads": 0})", kInvalid, "num_attention_heads: 0 is not in"},
    {R"({"num_key_value_heads": 0})", kInvalid, "num_key_value_heads: 0 is not in"},
    {R"({"num_key_value_heads": 3})", kInvalid, "num_key_value_heads: 3 does not divide"},
    {R"({"num_key_value_heads": 8})", kInvalid, "num_key_value_heads: 8 does not divide"},
    {R"({"num_attention_heads": 6})", kInvalid, "hidden_size 64 is no multiple of"},
    {R"({"head_dim": 0})", kInvalid, "head_dim: 0 is not in"},
    {R"({"head_dim": 15})", kInvalid, "head_dim: 15 is not an even number in [2, 1024]"},
    {R"({"head_dim": 2048})", kInvalid, "head_dim: 2048 is not in"},
    {R"({"hidden_size": 12})", kInvalid, "head_dim: 3 is not an even number"},
    {R"({"hidden_size": 8192})", kInvalid, "head_dim: 2048 is not an even number"},
    {R"({"vocab_size": 0})", kInvalid, "vocab_size: 0 is not in"},
    {R"({"vocab_size": 2147483648})", kInvalid, "vocab_size: 2147483648 is not in"},
    {R"({"max_position_embeddings": 0})", kInvalid, "max_position_embeddings: 0 is not in"},
    {R"({"rms_norm_eps": 0})", kInvalid, "rms_norm_eps: 0 is not in"},
    {R"({"rms_norm_eps": -1e-5})", kInvalid, "rms_norm_eps: -1e-05 is not in"},
    {R"({"rms_norm_eps": 1.0})", kInvalid, "rms_norm_eps: 1.0 is not in"},
    {R"({"rope_theta": 0})", kInvalid, "rope_theta: 0 is not in"},
    {R"({"rope_theta": -10000.0})", kInvalid, "rope_theta: -10000.0 is not in"},
    {R"({"rope_theta": 1})", kInvalid, "rope_theta: 1 is not in"},
    {R"({"eos_token_id": -2})", kInvalid, "eos_token_id: -2 is not in"},
    {R"({"bos_token_id": 4294967296})", kInvalid, "bos_token_id: 4294967296 is not in"},
    // Rope parameters.
    {R"({"rope_scaling": {"type": "linear"}})", kInvalid, "rope_scaling.factor: is missing"},
    {R"({"rope_scaling": {"type": "linear", "factor": 0.5}})", kInvalid,
     "rope_scaling.factor: 0.5 is not in"},
    {R"({"rope_scaling": {"type": 7}})", kInvalid, "rope_scaling.type: 7 is not a string"},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8}})", kInvalid,
     "rope_scaling.low_freq_factor: is missing"},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
        "high_freq_factor": 4, "original_max_position_embeddings": 8}})",
     kInvalid, "rope_scaling.high_freq_factor: 4 is not greater than low_freq_factor 4"},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
        "high_freq_factor": 4}})",
     kInvalid, "rope_scaling.original_max_position_embeddings: is missing"},
    {R"({"rope_scaling": {"type": "yarn", "factor": -4}})", kInvalid,
     "rope_scaling.factor: -4 is not in"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 4, "beta_fast": 1, "beta_slow": 2}})", kInvalid,
     "rope_scaling.beta_fast: 1 is less than beta_slow 2"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 4, "attention_factor": 0}})", kInvalid,
     "rope_scaling.attention_factor: 0 is not in"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 0}})",
     kInvalid, "rope_scaling.original_max_position_embeddings: 0 is not in"},
    // Features we do not have.
    {R"({"architectures": ["GPT2LMHeadModel"]})", kUnimplemented,
     "architectures: \"GPT2LMHeadModel\" is not supported; supported are LlamaForCausalLM, "
     "Mistral"},
    {R"({"architectures": ["MixtralForCausalLM"]})", kUnimplemented, "\"MixtralForCausalLM\""},
    {R"({"hidden_act": "gelu"})", kUnimplemented, "hidden_act: \"gelu\" is not supported"},
    {R"({"quantization_config": {"quant_method": "awq"}})", kUnimplemented, "quantization_config"},
    {R"({"rope_scaling": {"type": "dynamic", "factor": 2}})", kUnimplemented,
     "rope_scaling.type: \"dynamic\" is not supported"},
    {R"({"rope_scaling": {"rope_type": "longrope"}})", kUnimplemented,
     "rope_scaling.rope_type: \"longrope\" is not supported"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 4, "truncate": false}})", kUnimplemented,
     "rope_scaling.truncate"},
    {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})", kUnimplemented,
     "rope_parameters.full_attention"},
    {R"({"partial_rotary_factor": 0.5})", kUnimplemented, "partial_rotary_factor: 0.5"},
    {R"({"torch_dtype": "float64"})", kUnimplemented, "torch_dtype: \"float64\" is not supported"},
    {R"({"architectures": ["MistralForCausalLM"], "attention_bias": true})", kUnimplemented,
     "attention_bias: true is not supported for MistralForCausalLM"},
    {R"({"architectures": ["Qwen3ForCausalLM"], "mlp_bias": true})", kUnimplemented,
     "mlp_bias: true is not supported for Qwen3ForCausalLM"},
    {R"({"architectures": ["Qwen2ForCausalLM"], "layer_types": ["linear_attention"]})",
     kUnimplemented, "layer_types: \"linear_attention\" is not supported"},
    {R"({"architectures": ["Qwen2ForCausalLM"], "layer_types": "full_attention"})", kInvalid,
     "layer_types: \"full_attention\" is not a list"},
    {R"({"architectures": ["MistralForCausalLM"], "sliding_window": 0})", kInvalid,
     "sliding_window: 0 is not in"},
};

TEST(BadModelConfigTest, TheConfigTheCasesStartFromIsGood) {
  EXPECT_THAT(ParseModelConfig(Good().dump(), "", "config.json"), IsOk());
}

TEST(BadModelConfigTest, EveryBadFieldIsNamedWithItsCode) {
  for (const BadCase& bad : kBadCases) {
    SCOPED_TRACE(bad.change);
    json config = Good();
    config.merge_patch(json::parse(bad.change));
    const auto parsed = ParseModelConfig(config.dump(), "", "/m/config.json");
    EXPECT_THAT(parsed, StatusIs(bad.code, HasSubstr(bad.message)));
    EXPECT_THAT(parsed, StatusIs(bad.code, HasSubstr("/m/config.json: ")));
  }
}

TEST(BadModelConfigTest, TextThatIsNotJsonIsRefusedWithThePosition) {
  const std::vector<std::pair<std::string, const char*>> cases = {
      {"", "at byte 1"},
      {"{", "at byte 2"},
      {"{\"hidden_size\": 64,}", "at byte 20"},
      {"{\"a\": Infinity}", "at byte 7"},
      {"{\"a\": 1e999}", "not valid JSON"},
      {"{\"a\": \"\xff\"}", "at byte 8"},
      {"{} x", "at byte 4"},
      {"[1, 2]", "is not a JSON object but an array"},
      {"null", "is not a JSON object but null"},
      {"\"config\"", "is not a JSON object but \"config\""},
      {std::string(1'000'000, '['), "at byte 1000001"},
      {"{\"a\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}",
       "architectures: is missing"},
  };
  for (const auto& [text, message] : cases) {
    SCOPED_TRACE(text.substr(0, 40));
    EXPECT_THAT(ParseModelConfig(text, "", "/m/config.json"),
                StatusIs(kInvalid, HasSubstr(message)));
    EXPECT_THAT(ParseModelConfig(text, "", "/m/config.json"),
                StatusIs(kInvalid, HasSubstr("/m/config.json: ")));
  }
}

TEST(BadModelConfigTest, DeeplyNestedValuesAreRefusedWithoutRecursion) {
  json config = Good();
  config.erase("hidden_size");
  std::string text = config.dump();
  text.insert(1, "\"hidden_size\": " + std::string(100'000, '[') + std::string(100'000, ']') + ",");
  EXPECT_THAT(ParseModelConfig(text, "", "config.json"),
              StatusIs(kInvalid, HasSubstr("hidden_size: an array is not an integer")));
}

TEST(BadModelConfigTest, TheGenerationConfigIsCheckedToo) {
  const std::string good = Good().dump();
  EXPECT_THAT(ParseModelConfig(good, "{\"eos_token_id\": \"x\"}", "/m/config.json"),
              StatusIs(kInvalid, HasSubstr("/m/generation_config.json: eos_token_id: \"x\"")));
  EXPECT_THAT(ParseModelConfig(good, "[]", "/m/config.json"),
              StatusIs(kInvalid, HasSubstr("/m/generation_config.json: is not a JSON object")));
}

}  // namespace
}  // namespace sluice
