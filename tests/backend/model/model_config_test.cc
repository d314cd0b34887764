#include "backend/model/model_config.h"

#include <cmath>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

ModelConfig Parsed(const std::string& config, const std::string& generation = "") {
  const auto parsed = ParseModelConfig(config, generation, "config.json");
  EXPECT_THAT(parsed, IsOk());
  return parsed.ok() ? *parsed : ModelConfig();
}

// As the real files have it, but for irrelevant fields.
constexpr char kLlama32[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": false,
  "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
  "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192,
  "max_position_embeddings": 131072, "mlp_bias": false, "num_attention_heads": 32,
  "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                   "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "vocab_size": 128256})";

constexpr char kMistral[] = R"({
  "architectures": ["MistralForCausalLM"], "model_type": "mistral", "bos_token_id": 1,
  "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
  "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32,
  "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
  "sliding_window": 4096, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
  "vocab_size": 32000})";

constexpr char kQwen25[] = R"({
  "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "bos_token_id": 151643,
  "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
  "max_position_embeddings": 32768, "max_window_layers": 21, "num_attention_heads": 14,
  "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
  "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
  "torch_dtype": "bfloat16", "use_sliding_window": false, "vocab_size": 151936})";

constexpr char kQwen3[] = R"({
  "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false,
  "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
  "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960,
  "max_window_layers": 28, "num_attention_heads": 16, "num_hidden_layers": 28,
  "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000,
  "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "use_sliding_window": false, "vocab_size": 151936})";

TEST(ModelConfigTest, ReadsLlama) {
  const ModelConfig c = Parsed(kLlama32);
  EXPECT_EQ(c.architecture, "LlamaForCausalLM");
  EXPECT_EQ(c.model_type, "llama");
  EXPECT_EQ(c.layers, 16);
  EXPECT_EQ(c.hidden, 2048);
  EXPECT_EQ(c.intermediate, 8192);
  EXPECT_EQ(c.heads, 32);
  EXPECT_EQ(c.kv_heads, 8);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.vocab, 128256);
  EXPECT_EQ(c.max_position_embeddings, 131072);
  EXPECT_EQ(c.sliding_window, 0);
  EXPECT_DOUBLE_EQ(c.rms_norm_eps, 1e-5);
  EXPECT_EQ(c.rope.kind, RopeKind::kLlama3);
  EXPECT_EQ(c.rope.theta, 500000);
  EXPECT_EQ(c.rope.factor, 32);
  EXPECT_EQ(c.rope.low_freq_factor, 1);
  EXPECT_EQ(c.rope.high_freq_factor, 4);
  EXPECT_EQ(c.rope.original_max_position_embeddings, 8192);
  EXPECT_EQ(c.rope.attention_factor, 1);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_FALSE(c.qkv_bias || c.output_bias || c.mlp_bias || c.qk_norm);
  EXPECT_EQ(c.torch_dtype, "bfloat16");
  EXPECT_THAT(c.eos_ids, ElementsAre(128001, 128008, 128009));
  EXPECT_EQ(c.bos_id, 128000);
  EXPECT_EQ(c.KvBytesPerToken(2), Bytes(2 * 16 * 8 * 64 * 2));
}

TEST(ModelConfigTest, MistralIsCutToItsSlidingWindow) {
  const ModelConfig c = Parsed(kMistral);
  EXPECT_EQ(c.sliding_window, 4096);
  EXPECT_EQ(c.max_position_embeddings, 4096);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_THAT(c.eos_ids, ElementsAre(2));
}

TEST(ModelConfigTest, QwenWithItsWindowOffKeepsTheWholeContext) {
  const ModelConfig c = Parsed(kQwen25);
  EXPECT_EQ(c.sliding_window, 0);
  EXPECT_EQ(c.max_position_embeddings, 32768);
  EXPECT_TRUE(c.qkv_bias);
  EXPECT_FALSE(c.output_bias);
  EXPECT_FALSE(c.qk_norm);
  EXPECT_EQ(c.rope.kind, RopeKind::kDefault);
}

TEST(ModelConfigTest, Qwen3HasItsOwnHeadDimAndQkNorm) {
  const ModelConfig c = Parsed(kQwen3);
  EXPECT_TRUE(c.qk_norm);
  EXPECT_FALSE(c.qkv_bias);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.q_dim(), 2048);  // not hidden
  EXPECT_EQ(c.kv_dim(), 1024);
}

// A small good config with `fields` (JSON members) put in, which win over the ones here.
std::string Small(const std::string& fields, const std::string& architecture = "Llama") {
  return R"({"architectures": [")" + architecture +
         R"(ForCausalLM"], "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
         "intermediate_size": 96, "vocab_size": 100, "max_position_embeddings": 1024)" +
         (fields.empty() ? "" : ", " + fields) + "}";
}

TEST(ModelConfigTest, AbsentFieldsTakeHuggingFacesDefaults) {
  const ModelConfig c = Parsed(Small(""));
  EXPECT_EQ(c.model_type, "llama");
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.rms_norm_eps, 1e-6);
  EXPECT_EQ(c.rope.theta, 10000);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_EQ(c.torch_dtype, "");
  EXPECT_TRUE(c.eos_ids.empty());
  EXPECT_EQ(c.bos_id, -1);
}

TEST(ModelConfigTest, MistralWithoutTheFieldHasTheDefaultWindowAndWithNullNone) {
  const std::string longer = R"("max_position_embeddings": 9000)";
  EXPECT_EQ(Parsed(Small(longer, "Mistral")).max_position_embeddings, 4096);
  EXPECT_EQ(Parsed(Small(longer + R"(, "sliding_window": null)", "Mistral")).sliding_window, 0);
  EXPECT_EQ(
      Parsed(Small(longer + R"(, "sliding_window": null)", "Mistral")).max_position_embeddings,
      9000);
}

TEST(ModelConfigTest, QwenWithItsWindowOnIsCut) {
  const std::string on = R"("use_sliding_window": true, "sliding_window": 256)";
  EXPECT_EQ(Parsed(Small(on, "Qwen2")).max_position_embeddings, 256);
  EXPECT_EQ(Parsed(Small(on, "Qwen3")).sliding_window, 256);
  const std::string layers = R"("sliding_window": 128, "layer_types": ["full_attention", )";
  EXPECT_EQ(Parsed(Small(layers + R"("sliding_attention"])", "Qwen3")).sliding_window, 128);
  EXPECT_EQ(Parsed(Small(layers + R"("full_attention"])", "Qwen3")).sliding_window, 0);
}

TEST(ModelConfigTest, AttentionBiasCoversOutputProjectionInLlamaAndQwen3) {
  for (const char* family : {"Llama", "Qwen3"}) {
    const ModelConfig c = Parsed(Small(R"("attention_bias": true)", family));
    EXPECT_TRUE(c.qkv_bias) << family;
    EXPECT_TRUE(c.output_bias) << family;
  }
  EXPECT_TRUE(Parsed(Small(R"("mlp_bias": true)")).mlp_bias);
}

TEST(ModelConfigTest, GenerationConfigWinsForSpecialIds) {
  const std::string config = Small(R"("eos_token_id": 2, "bos_token_id": 1)");
  const ModelConfig c = Parsed(config, R"({"eos_token_id": [5, 7], "temperature": 0.6})");
  EXPECT_THAT(c.eos_ids, ElementsAre(5, 7));
  EXPECT_EQ(c.bos_id, 1);
  const ModelConfig unchanged = Parsed(config, R"({"eos_token_id": null})");
  EXPECT_THAT(unchanged.eos_ids, ElementsAre(2));
}

TEST(ModelConfigTest, SpecialIdsOutsideTheVocabularyAndRepeatedOnesAreLeftOut) {
  const ModelConfig c =
      Parsed(Small(R"("eos_token_id": [99, 100, 3, 99, -1], "bos_token_id": 128000)"));
  EXPECT_THAT(c.eos_ids, ElementsAre(99, 3));
  EXPECT_EQ(c.bos_id, -1);
}

TEST(ModelConfigTest, RopeScalingReadsOldAndNewSpelling) {
  for (const char* field : {"type", "rope_type"}) {
    const ModelConfig c = Parsed(Small(R"("rope_theta": 5000, "rope_scaling": {")" +
                                       std::string(field) + R"(": "linear", "factor": 4})"));
    EXPECT_EQ(c.rope.kind, RopeKind::kLinear) << field;
    EXPECT_EQ(c.rope.factor, 4) << field;
    EXPECT_EQ(c.rope.theta, 5000) << field;
  }
}

TEST(ModelConfigTest, RopeParametersCarryThetaAndKind) {
  const ModelConfig c = Parsed(
      Small(R"("rope_parameters": {"rope_theta": 7000.0, "rope_type": "linear", "factor": 2.0})"));
  EXPECT_EQ(c.rope.kind, RopeKind::kLinear);
  EXPECT_EQ(c.rope.theta, 7000);
  const ModelConfig plain =
      Parsed(Small(R"("rope_parameters": {"rope_theta": 9000, "rope_type": "default"})"));
  EXPECT_EQ(plain.rope.kind, RopeKind::kDefault);
  EXPECT_EQ(plain.rope.theta, 9000);
}

TEST(ModelConfigTest, YarnAttentionFactorDefaultsToThePapers) {
  const std::string yarn =
      R"("rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512)";
  const RopeConfig rope = Parsed(Small(yarn + "}")).rope;
  EXPECT_EQ(rope.kind, RopeKind::kYarn);
  EXPECT_EQ(rope.beta_fast, 32);
  EXPECT_EQ(rope.beta_slow, 1);
  EXPECT_EQ(rope.original_max_position_embeddings, 512);
  EXPECT_NEAR(rope.attention_factor, 1.138629436111989, 1e-15);  // 0.1 ln 4 + 1
  EXPECT_EQ(Parsed(Small(yarn + R"(, "attention_factor": 1.5})")).rope.attention_factor, 1.5);
  // mscale over mscale_all_dim, as DeepSeek's files have it.
  EXPECT_NEAR(Parsed(Small(yarn + R"(, "mscale": 2, "mscale_all_dim": 1})")).rope.attention_factor,
              (1 + 0.2 * std::log(4.0)) / (1 + 0.1 * std::log(4.0)), 1e-15);
  EXPECT_EQ(Parsed(Small(yarn + R"(, "mscale": 1, "mscale_all_dim": 1})")).rope.attention_factor,
            1);
}

TEST(ModelConfigTest, YarnWithoutOriginalLengthTakesTheModels) {
  const ModelConfig c = Parsed(Small(R"("rope_scaling": {"type": "yarn", "factor": 2})"));
  EXPECT_EQ(c.rope.original_max_position_embeddings, 1024);
  // Without a factor: the ratio of the lengths.
  const ModelConfig ratio =
      Parsed(Small(R"("rope_scaling": {"type": "yarn", "original_max_position_embeddings": 128})"));
  EXPECT_EQ(ratio.rope.factor, 8);
}

TEST(ModelConfigTest, YarnOriginalLengthIsTheFilesNotTheWindows) {
  const ModelConfig c = Parsed(
      Small(R"("sliding_window": 100, "rope_scaling": {"type": "yarn", "factor": 2})", "Mistral"));
  EXPECT_EQ(c.max_position_embeddings, 100);
  EXPECT_EQ(c.rope.original_max_position_embeddings, 1024);
}

TEST(ModelConfigTest, DtypeIsTheNewNameOfTorchDtype) {
  EXPECT_EQ(Parsed(Small(R"("dtype": "float16")")).torch_dtype, "float16");
}

TEST(LoadModelConfigTest, ReadsBothFiles) {
  const testing::TempDir dir;
  dir.Write("config.json", Small(R"("eos_token_id": 2)"));
  dir.Write("generation_config.json", R"({"eos_token_id": 9})");
  const auto config = LoadModelConfig(dir.path());
  ASSERT_THAT(config, IsOk());
  EXPECT_THAT(config->eos_ids, ElementsAre(9));
}

TEST(LoadModelConfigTest, NamesWhatIsMissing) {
  const testing::TempDir dir;
  EXPECT_THAT(
      LoadModelConfig(dir.File("nowhere")),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere: model directory does not")));
  EXPECT_THAT(LoadModelConfig(dir.path()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("has no config.json")));
  dir.Write("llama.Q4.gguf", "GGUF");
  EXPECT_THAT(LoadModelConfig(dir.path()),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("has no config.json"), HasSubstr("llama.Q4.gguf"))));
  EXPECT_THAT(LoadModelConfig(dir.File("llama.Q4.gguf")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is not a directory")));
}

TEST(LoadModelConfigTest, NamesTheFileThatIsBroken) {
  const testing::TempDir dir;
  dir.Write("config.json", "");
  EXPECT_THAT(LoadModelConfig(dir.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/config.json: not valid")));
  dir.Write("config.json", Small(""));
  dir.Write("generation_config.json", "{\"eos_token_id\": }");
  EXPECT_THAT(LoadModelConfig(dir.path()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("/generation_config.json: not valid JSON at byte 18"))));
  dir.Write("generation_config.json", "");
  EXPECT_THAT(
      LoadModelConfig(dir.path()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/generation_config.json: is empty")));
}

}  // namespace
}  // namespace sluice
