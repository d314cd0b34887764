#include "backend/model/checkpoint.h"

#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_checkpoint.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::MatchesRegex;
using testing::RandomModel;
using testing::RandomModelSpec;
using testing::StatusIs;
using testing::TempDir;

std::vector<float> Floats(const TensorView& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.elements()));
  ReadFloats(tensor, 0, out);
  return out;
}

// Config and checkpoint of `dir` as the server opens them.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenDir(const TempDir& dir) {
  const auto config = LoadModelConfig(dir.path());
  EXPECT_THAT(config, IsOk());
  if (!config.ok()) return config.status();
  return Checkpoint::Open(dir.path(), *config);
}

void WriteModel(const RandomModelSpec& spec, const TempDir& dir) {
  ASSERT_THAT(testing::WriteRandomModel(spec, dir.path()), IsOk());
}

// The tensors a layer of this checkpoint has, in a fixed order.
std::vector<const TensorView*> TensorsOf(const LayerTensors& t) {
  return {t.input_norm, t.q,      t.k,         t.v,       t.o,         t.q_bias,
          t.k_bias,     t.v_bias, t.o_bias,    t.q_norm,  t.k_norm,    t.gate,
          t.up,         t.down,   t.gate_bias, t.up_bias, t.down_bias, t.post_attention_norm};
}

TEST(CheckpointTest, ResolvesTheTensorsOfEveryFamily) {
  struct Case {
    RandomModelSpec spec;
    int per_layer;
  };
  const Case cases[] = {
      {{.architecture = "LlamaForCausalLM"}, 9},
      {{.architecture = "LlamaForCausalLM", .attention_bias = true, .mlp_bias = true}, 16},
      {{.architecture = "MistralForCausalLM"}, 9},
      {{.architecture = "Qwen2ForCausalLM"}, 12},
      {{.architecture = "Qwen3ForCausalLM", .head_dim = 6}, 11},
      {{.architecture = "Qwen3ForCausalLM", .attention_bias = true}, 15},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.spec.architecture);
    const RandomModel model(c.spec);
    ASSERT_EQ(model.checkpoint().layers().size(), 2u);
    for (const LayerTensors& layer : model.checkpoint().layers()) {
      int have = 0;
      for (const TensorView* tensor : TensorsOf(layer)) have += tensor != nullptr;
      EXPECT_EQ(have, c.per_layer);
      const int64_t q = 4 * (c.spec.head_dim != 0 ? c.spec.head_dim : 8);
      EXPECT_EQ(layer.q->shape, (std::vector<int64_t>{q, 32}));
      EXPECT_EQ(layer.k->shape, (std::vector<int64_t>{q / 2, 32}));
      EXPECT_EQ(layer.o->shape, (std::vector<int64_t>{32, q}));
      EXPECT_EQ(layer.down->shape, (std::vector<int64_t>{32, 64}));
    }
    EXPECT_EQ(model.checkpoint().layers()[1].q->name, "model.layers.1.self_attn.q_proj.weight");
  }
}

TEST(CheckpointTest, TiedModelsUseTheEmbeddingAsHead) {
  const RandomModel tied({.tied = true});
  EXPECT_EQ(&tied.checkpoint().lm_head(), &tied.checkpoint().embedding());
  const RandomModel untied({.tied = false});
  EXPECT_EQ(untied.checkpoint().lm_head().name, "lm_head.weight");
  EXPECT_EQ(untied.checkpoint().parameters() - tied.checkpoint().parameters(), 96 * 32);
}

TEST(CheckpointTest, CountsParametersAndBytes) {
  const RandomModel model({.layers = 1,
                           .hidden = 8,
                           .intermediate = 16,
                           .heads = 2,
                           .kv_heads = 1,
                           .vocab = 10,
                           .dtype = DType::kBF16});
  // embedding, lm_head, three norms, q and o, k and v (one head of 4), gate, up, down.
  const int64_t want = 80 + 80 + 3 * 8 + 2 * 64 + 2 * 32 + 3 * 128;
  EXPECT_EQ(model.checkpoint().parameters(), want);
  EXPECT_EQ(model.checkpoint().total_bytes(), Bytes(2 * want));
  EXPECT_EQ(model.checkpoint().dominant_dtype(), DType::kBF16);
}

TEST(CheckpointTest, ShardsAreTheSameModelAsOneFile) {
  const RandomModel single({.attention_bias = true});
  const RandomModel sharded({.attention_bias = true, .shards = 5});
  EXPECT_FALSE(std::filesystem::exists(sharded.dir() + "/model.safetensors"));
  EXPECT_EQ(single.checkpoint().fingerprint(), sharded.checkpoint().fingerprint());
  EXPECT_EQ(Floats(single.checkpoint().embedding()), Floats(sharded.checkpoint().embedding()));
  EXPECT_EQ(Floats(single.checkpoint().lm_head()), Floats(sharded.checkpoint().lm_head()));
  for (size_t i = 0; i < 2; ++i) {
    const auto a = TensorsOf(single.checkpoint().layers()[i]);
    const auto b = TensorsOf(sharded.checkpoint().layers()[i]);
    for (size_t t = 0; t < a.size(); ++t) {
      ASSERT_EQ(a[t] == nullptr, b[t] == nullptr);
      if (a[t] == nullptr) continue;
      EXPECT_EQ(Floats(*a[t]), Floats(*b[t]));
    }
  }
}

TEST(CheckpointTest, AnotherDtypeIsTheSameModelRounded) {
  const RandomModel f32({});
  const RandomModel f16({.dtype = DType::kF16});
  const RandomModel bf16({.dtype = DType::kBF16});
  const std::vector<float> want = Floats(*f32.checkpoint().layers()[0].gate);
  const std::vector<float> half = Floats(*f16.checkpoint().layers()[0].gate);
  const std::vector<float> brain = Floats(*bf16.checkpoint().layers()[0].gate);
  for (size_t i = 0; i < want.size(); ++i) {
    // Half a unit in the last place; below 2^-14 f16 has a fixed unit of 2^-24.
    ASSERT_LE(std::abs(half[i] - want[i]), std::max(std::abs(want[i]) * 0x1p-11f, 0x1p-25f));
    ASSERT_LE(std::abs(brain[i] - want[i]), std::abs(want[i]) * 0x1p-8f);
  }
}

TEST(FingerprintTest, IsStableAndTellsModelsApart) {
  const RandomModelSpec base;
  const std::string fingerprint = RandomModel(base).checkpoint().fingerprint();
  EXPECT_THAT(fingerprint, MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(fingerprint, RandomModel(base).checkpoint().fingerprint());

  RandomModelSpec spec = base;
  spec.eos_ids = {3};  // does not change what the KV cache holds
  EXPECT_EQ(fingerprint, RandomModel(spec).checkpoint().fingerprint());

  std::vector<RandomModelSpec> others(5, base);
  others[0].seed = 2;
  others[1].dtype = DType::kBF16;
  others[2].rope.theta = 500000;
  others[3].layers = 1;
  others[4].rms_norm_eps = 1e-6;
  for (const RandomModelSpec& other : others) {
    EXPECT_NE(fingerprint, RandomModel(other).checkpoint().fingerprint());
  }
}

TEST(FingerprintTest, SeesAChangeInTheWeights) {
  const TempDir dir;
  WriteModel({}, dir);
  const auto before = OpenDir(dir);
  ASSERT_THAT(before, IsOk());
  std::string file = dir.Read("model.safetensors");
  file.back() = static_cast<char>(file.back() ^ 1);
  dir.Write("model.safetensors.new", file);
  std::filesystem::rename(dir.File("model.safetensors.new"), dir.File("model.safetensors"));
  const auto after = OpenDir(dir);
  ASSERT_THAT(after, IsOk());
  EXPECT_NE((*before)->fingerprint(), (*after)->fingerprint());
}

TEST(BadCheckpointTest, MissingFilesAreNamed) {
  const TempDir dir;
  WriteModel({.shards = 3}, dir);
  std::filesystem::remove(dir.File("model-00002-of-00003.safetensors"));
  EXPECT_THAT(OpenDir(dir),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("model-00002-of-00003.safetensors")));
  std::filesystem::remove(dir.File("model.safetensors.index.json"));
  EXPECT_THAT(OpenDir(dir),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("has neither model.safetensors")));
}

TEST(BadCheckpointTest, OtherFormatsAreNamedWithTheRemedy) {
  const TempDir dir;
  WriteModel({}, dir);
  std::filesystem::rename(dir.File("model.safetensors"), dir.File("pytorch_model.bin"));
  EXPECT_THAT(OpenDir(dir), StatusIs(absl::StatusCode::kUnimplemented,
                                     AllOf(HasSubstr("PyTorch weights (pytorch_model.bin)"),
                                           HasSubstr("convert them to safetensors"))));
  std::filesystem::rename(dir.File("pytorch_model.bin"), dir.File("model.Q4_0.gguf"));
  EXPECT_THAT(OpenDir(dir), StatusIs(absl::StatusCode::kUnimplemented,
                                     HasSubstr("GGUF weights (model.Q4_0.gguf)")));
}

TEST(BadCheckpointTest, WeightsThatAreNoRegularFileDoNotHang) {
  const TempDir dir;
  WriteModel({}, dir);
  std::filesystem::remove(dir.File("model.safetensors"));
  ASSERT_EQ(::mkfifo(dir.File("model.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(OpenDir(dir),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is not a regular file")));
  std::filesystem::remove(dir.File("model.safetensors"));
  std::filesystem::create_directory(dir.File("model.safetensors"));
  EXPECT_THAT(OpenDir(dir),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is not a regular file")));
}

TEST(BadCheckpointTest, MissingTensorsAreNamed) {
  const TempDir dir;
  WriteModel({.tied = true}, dir);
  const auto open_as = [&](RandomModelSpec spec) {
    dir.Write("config.json", testing::RandomModelConfigJson(spec));
    return OpenDir(dir);
  };
  EXPECT_THAT(open_as({.tied = true}), IsOk());
  EXPECT_THAT(open_as({.tied = false}),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("lm_head.weight"), HasSubstr("tie_word_embeddings"))));
  EXPECT_THAT(open_as({.layers = 3, .tied = true}),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("no tensor model.layers.2.input_layernorm.weight")));
  EXPECT_THAT(open_as({.architecture = "Qwen2ForCausalLM", .tied = true}),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("model.layers.0.self_attn.q_proj.bias, which Qwen2ForCausalLM")));
  EXPECT_THAT(open_as({.architecture = "Qwen3ForCausalLM", .tied = true}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("self_attn.q_norm.weight")));
}

TEST(BadCheckpointTest, WrongShapesAreNamedWithHaveAndWant) {
  const TempDir dir;
  WriteModel({}, dir);
  const auto open_as = [&](RandomModelSpec spec) {
    dir.Write("config.json", testing::RandomModelConfigJson(spec));
    return OpenDir(dir);
  };
  EXPECT_THAT(
      open_as({.kv_heads = 4}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("k_proj.weight: has shape [16, 32], config.json calls for [32, 32]")));
  EXPECT_THAT(open_as({.vocab = 97}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model.embed_tokens.weight: has shape [96, 32]")));
  EXPECT_THAT(open_as({.intermediate = 63}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("mlp.gate_proj.weight")));
}

TEST(BadCheckpointTest, DtypesWeCannotComputeWithAreNamed) {
  const TempDir dir;
  WriteModel({}, dir);
  std::string file = dir.Read("model.safetensors");
  const std::string from = R"("F32","shape":[32]})";  // a norm; the same length and size
  const size_t at = file.find(from);
  ASSERT_NE(at, std::string::npos);
  file.replace(at, from.size(), R"("I32","shape":[32]})");
  dir.Write("model.safetensors", file);
  EXPECT_THAT(OpenDir(dir),
              StatusIs(absl::StatusCode::kUnimplemented,
                       AllOf(HasSubstr("model.safetensors: tensor model."),
                             HasSubstr("dtype I32 is not supported; supported are F32"))));
}

TEST(BadCheckpointTest, TruncatedWeightsAreAnErrorAtEveryLength) {
  const TempDir dir;
  WriteModel({.layers = 1, .hidden = 8, .intermediate = 8, .heads = 2, .kv_heads = 1, .vocab = 8},
             dir);
  const std::string file = dir.Read("model.safetensors");
  for (size_t size = 0; size < file.size(); size += 1 + size / 16) {
    SCOPED_TRACE(size);
    dir.Write("model.safetensors", file.substr(0, size));
    EXPECT_THAT(OpenDir(dir),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/model.safetensors: ")));
  }
}

TEST(BadCheckpointTest, IndexEntriesAreChecked) {
  const TempDir dir;
  WriteModel({.shards = 2}, dir);
  const json good = json::parse(dir.Read("model.safetensors.index.json"));
  const std::string name = "model.norm.weight";
  const auto open_with = [&](const json& file) {
    json index = good;
    index["weight_map"][name] = file;
    dir.Write("model.safetensors.index.json", index.dump());
    return OpenDir(dir);
  };
  for (const json& bad :
       {json("../x"), json("/etc/passwd"), json("a/b.safetensors"), json(".."), json(""), json(7),
        json(nullptr), json(std::string("a\0b", 3)), json("..\\x")}) {
    SCOPED_TRACE(bad.dump());
    EXPECT_THAT(open_with(bad), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("is not the name of a file beside it")));
  }
  EXPECT_THAT(open_with("other.safetensors"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("other.safetensors")));
  const std::string here = good["weight_map"][name];
  const bool first = here == "model-00001-of-00002.safetensors";
  EXPECT_THAT(
      open_with(first ? "model-00002-of-00002.safetensors" : "model-00001-of-00002.safetensors"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("has no tensor model.norm.weight")));
  for (const char* text : {"{}", R"({"weight_map": {}})", R"({"weight_map": [1]})", "[]", "{"}) {
    dir.Write("model.safetensors.index.json", text);
    EXPECT_THAT(OpenDir(dir), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("model.safetensors.index.json")));
  }
}

// Whatever a corrupt file still opens as, all its tensors can be read.
TEST(BadCheckpointTest, RandomCorruptionNeverCrashes) {
  const TempDir dir;
  WriteModel({.layers = 1, .hidden = 8, .intermediate = 8, .heads = 2, .kv_heads = 1, .vocab = 8},
             dir);
  const std::string config = dir.Read("config.json");
  const std::string weights = dir.Read("model.safetensors");
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    std::string bad_config = config;
    std::string bad_weights = weights;
    std::string& victim = seed % 2 == 0 ? bad_config : bad_weights;
    const size_t limit = seed % 2 == 0 ? victim.size() : size_t{1500};
    for (uint64_t n = 1 + random() % 3; n > 0; --n) {
      victim[random() % limit] = static_cast<char>(random());
    }
    dir.Write("config.json", bad_config);
    dir.Write("model.safetensors", bad_weights);
    const auto loaded = LoadModelConfig(dir.path());
    if (!loaded.ok()) continue;
    const auto opened = Checkpoint::Open(dir.path(), *loaded);
    if (!opened.ok()) continue;
    for (const TensorView* tensor : TensorsOf((*opened)->layers()[0])) {
      if (tensor != nullptr) Floats(*tensor);
    }
  }
}

}  // namespace
}  // namespace sluice
