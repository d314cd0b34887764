// Everything that can be wrong with a config.json or a model file.
#include <nlohmann/json.hpp>
#include <string>

#include "gtest/gtest.h"
#include "service/profiles/model_config_profile.h"
#include "service/profiles/profile_files.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

struct BadCase {
  const char* change;  // JSON merged over the good one; null removes a field (RFC 7386)
  absl::StatusCode code;
  const char* message;
};

json GoodConfig() {
  return json::parse(R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
      "vocab_size": 100, "max_position_embeddings": 1024, "torch_dtype": "bfloat16"})");
}

constexpr BadCase kBadConfigs[] = {
    {R"({"model_type": null})", kInvalid, "c.json: model_type: is missing"},
    {R"({"model_type": "lama"})", kUnimplemented,
     "\"lama\" is not a known family; did you mean llama?"},
    {R"({"model_type": "mamba"})", kUnimplemented, "known: llama, mistral, qwen2"},
    {R"({"hidden_size": null})", kInvalid, "c.json: hidden_size: is missing"},
    {R"({"intermediate_size": null})", kInvalid, "c.json: intermediate_size: is missing"},
    {R"({"num_hidden_layers": null})", kInvalid, "c.json: num_hidden_layers: is missing"},
    {R"({"num_attention_heads": null})", kInvalid, "c.json: num_attention_heads: is missing"},
    {R"({"vocab_size": null})", kInvalid, "c.json: vocab_size: is missing"},
    {R"({"max_position_embeddings": null})", kInvalid, "max_position_embeddings: is missing"},
    {R"({"torch_dtype": null})", kInvalid, "torch_dtype: is missing"},
    {R"({"torch_dtype": "int7"})", kInvalid, "\"int7\" is not bfloat16, float16 or float32"},
    {R"({"num_hidden_layers": -2})", kInvalid, "num_hidden_layers: -2 is not in [1, 1024]"},
    {R"({"num_hidden_layers": 1e9})", kInvalid, "is not an integer"},
    {R"({"hidden_size": "64"})", kInvalid, "hidden_size: \"64\" is not an integer"},
    {R"({"num_key_value_heads": 3})", kInvalid,
     "num_key_value_heads: 3 does not divide num_attention_heads, 4"},
    {R"({"num_attention_heads": 6, "num_key_value_heads": 6})", kInvalid,
     "head_dim: is missing, and num_attention_heads, 6, does not divide hidden_size, 64"},
    {R"({"model_type": "mistral", "num_key_value_heads": null})", kInvalid,
     "num_key_value_heads: is missing"},
    {R"({"model_type": "qwen3_moe"})", kInvalid, "decoder_sparse_step: is missing"},
    {R"({"model_type": "qwen3_moe", "decoder_sparse_step": 1})", kInvalid,
     "num_experts: is missing"},
    {R"({"model_type": "qwen3_moe", "decoder_sparse_step": 1, "num_experts": 4,
         "num_experts_per_tok": 5, "moe_intermediate_size": 8})",
     kInvalid, "num_experts_per_tok: 5 is not in [1, 4]"},
    {R"({"model_type": "deepseek_v3"})", kInvalid, "kv_lora_rank: is missing"},
    {R"({"model_type": "gpt_oss", "num_local_experts": 2, "num_experts_per_tok": 1})", kInvalid,
     "sliding_window: is missing"},
    {R"({"model_type": "gpt_oss", "num_local_experts": 2, "num_experts_per_tok": 1,
         "sliding_window": 128, "layer_types": ["full_attention"]})",
     kInvalid, "layer_types: an array is not a list of 2 names, one per layer"},
    {R"({"model_type": "gpt_oss", "num_local_experts": 2, "num_experts_per_tok": 1,
         "sliding_window": 128, "layer_types": ["full_attention", "linear_attention"]})",
     kInvalid, "\"linear_attention\" is neither sliding_attention nor full_attention"},
    {R"({"model_type": "gemma3"})", kInvalid, "text_config: is missing"},
    {R"({"model_type": "gemma3", "text_config": 3})", kInvalid, "text_config: is not an object"},
    {R"({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}})", kInvalid,
     "text_config.num_hidden_layers: is missing"},
    {R"({"quantization_config": 4})", kInvalid, "quantization_config: 4 is not an object"},
    {R"({"quantization_config": {}})", kInvalid, "quant_method: is missing"},
    {R"({"quantization_config": {"quant_method": "magic"}})", kUnimplemented,
     "quant_method \"magic\" is not known; known: fp8, mxfp4"},
    {R"({"quantization_config": {"quant_method": "gptq", "bits": 3}})", kUnimplemented,
     "gptq and awq with 4 or 8 bits"},
};

TEST(BadModelProfilesTest, GoodConfigIsGood) {
  EXPECT_THAT(ModelFromConfigJson(GoodConfig().dump(), "c.json"), IsOk());
}

TEST(BadModelProfilesTest, BadConfigsNameFileFieldValueAndWhatIsAllowed) {
  for (const BadCase& bad : kBadConfigs) {
    json config = GoodConfig();
    config.merge_patch(json::parse(bad.change));
    EXPECT_THAT(ModelFromConfigJson(config.dump(), "c.json"),
                StatusIs(bad.code, AllOf(HasSubstr("c.json: "), HasSubstr(bad.message))))
        << bad.change;
  }
}

TEST(BadModelProfilesTest, TextThatIsNotJsonSaysWhere) {
  EXPECT_THAT(ModelFromConfigJson("{\"a\":", "c.json"),
              StatusIs(kInvalid, HasSubstr("c.json: not valid JSON at byte")));
  EXPECT_THAT(ModelFromConfigJson("[]", "c.json"),
              StatusIs(kInvalid, HasSubstr("is not a JSON object but an empty array")));
}

json GoodFile() {
  return json::parse(R"({"name": "m",
      "shape": {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16,
                "value_head_dim": 16, "max_context": "1024 tokens", "source": "test"},
      "latent_attention": "none", "sliding_window": "none",
      "parameters": {"total": "1e6 parameters", "active": "1e6 parameters",
                     "prefill": "9e5 parameters", "streamed": "1e6 parameters",
                     "source": "test"},
      "weights": "bf16"})");
}

constexpr BadCase kBadFiles[] = {
    {R"({"name": null})", kInvalid, "m.json: name: is missing"},
    {R"({"shape": null})", kInvalid, "m.json: shape: is missing"},
    {R"({"shape": {"layers": null}})", kInvalid, "shape.layers: is missing"},
    {R"({"shape": {"layers": 0}})", kInvalid, "shape.layers: 0 is not an integer in [1, 10000]"},
    {R"({"shape": {"layers": -4}})", kInvalid, "shape.layers: -4 is not an integer in"},
    {R"({"shape": {"layers": 2.5}})", kInvalid, "shape.layers: 2.5 is not an integer in"},
    {R"({"shape": {"kv_heads": 3}})", kInvalid, "kv_heads: 3 does not divide heads, 4"},
    {R"({"shape": {"max_context": 1024}})", kInvalid, "shape.max_context: 1024 has no unit"},
    {R"({"shape": {"max_context": "1024"}})", kInvalid, "\"1024\" has no unit"},
    {R"({"shape": {"max_context": "-1 tokens"}})", kInvalid, "\"-1 tokens\" is negative"},
    {R"({"shape": {"source": null}})", kInvalid, "shape.source: is missing"},
    {R"({"shape": {"source": ""}})", kInvalid, "shape.source: \"\" is not a text"},
    {R"({"shape": {"layer": 2}})", kInvalid,
     "shape.layer: is not a known key; did you mean shape.layers?"},
    {R"({"latent_attention": null})", kInvalid, "latent_attention: is missing; want an object or"},
    {R"({"latent_attention": {"dim": 4, "value_dim": 5, "source": "t"}})", kInvalid,
     "latent_value_dim: 5 is not in [1, 4]"},
    {R"({"sliding_window": {"layers": 3, "size": "8 tokens", "source": "t"}})", kInvalid,
     "windowed_layers: 3 is not in [0, 2]"},
    {R"({"parameters": {"total": "1e6"}})", kInvalid, "parameters.total: \"1e6\" has no unit"},
    {R"({"parameters": {"active": "2e6 parameters"}})", kInvalid, "active_parameters: 2e+06"},
    {R"({"parameters": {"prefill": null}})", kInvalid, "parameters.prefill: is missing"},
    {R"({"parameters": {"prefill": "0 parameters"}})", kInvalid, "parameters.prefill: is 0"},
    {R"({"weights": "bf17"})", kInvalid, "weights: \"bf17\" is not a number format; want one of"},
    {R"({"wieghts": "bf16"})", kInvalid, "wieghts: is not a known key; did you mean weights?"},
};

TEST(BadModelProfilesTest, GoodFileIsGood) {
  EXPECT_THAT(ModelFromJson(GoodFile().dump(), "m.json"), IsOk());
}

TEST(BadModelProfilesTest, BadFilesNameFileKeyValueAndWhatIsAllowed) {
  for (const BadCase& bad : kBadFiles) {
    json file = GoodFile();
    file.merge_patch(json::parse(bad.change));
    EXPECT_THAT(ModelFromJson(file.dump(), "m.json"),
                StatusIs(bad.code, AllOf(HasSubstr("m.json: "), HasSubstr(bad.message))))
        << bad.change;
  }
}

TEST(BadModelProfilesTest, AKeyThatComesTwiceIsAnError) {
  EXPECT_THAT(ModelFromJson(R"({"name": "a", "name": "b"})", "m.json"),
              StatusIs(kInvalid, HasSubstr("m.json: key \"name\" comes twice")));
}

}  // namespace
}  // namespace sluice
