// make_random_checkpoint: writes a random model directory for benchmarks and experiments.
//
//   make_random_checkpoint --preset 1b --vocab 32000 --out m1b

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>

#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "tests/support/random_checkpoint.h"

namespace sluice::testing {
namespace {

// Sets the shape; everything else of `spec` stays.
void ApplyPreset(const std::string& name, RandomModelSpec& spec) {
  if (name == "tiny") return;
  spec.dtype = DType::kBF16;
  if (name == "150m") {
    spec.layers = 12;
    spec.hidden = 1024;
    spec.intermediate = 2816;
    spec.heads = 16;
    spec.kv_heads = 4;
    spec.vocab = 8192;
    spec.max_position_embeddings = 8192;
  } else if (name == "1b") {  // Llama-3.2-1B but for the vocabulary (there 128,256, tied)
    spec.layers = 16;
    spec.hidden = 2048;
    spec.intermediate = 8192;
    spec.heads = 32;
    spec.kv_heads = 8;
    spec.vocab = 32000;
    spec.max_position_embeddings = 131072;
    spec.rope.theta = 500000;
    spec.rms_norm_eps = 1e-5;
    spec.tied = true;
  }
}

// The preset must be known before the other flags, which override it.
std::string FindPreset(int argc, char** argv) {
  const std::string flag = "--preset";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == flag && i + 1 < argc) return argv[i + 1];
    if (argument.rfind(flag + "=", 0) == 0) return argument.substr(flag.size() + 1);
  }
  return "tiny";
}

// An option whose values are names.
template <class T>
void AddChoice(CLI::App& app, const std::string& flag, const std::map<std::string, T>& choices,
               T& value) {
  std::vector<std::string> names;
  for (const auto& [name, choice] : choices) names.push_back(name);
  app.add_option_function<std::string>(
         flag, [choices, &value](const std::string& name) { value = choices.at(name); })
      ->check(CLI::IsMember(names));
}

void AddFlags(CLI::App& app, RandomModelSpec& spec) {
  const std::map<std::string, DType> dtypes = {
      {"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}};
  const std::map<std::string, RopeKind> kinds = {{"default", RopeKind::kDefault},
                                                 {"linear", RopeKind::kLinear},
                                                 {"llama3", RopeKind::kLlama3},
                                                 {"yarn", RopeKind::kYarn}};
  app.add_option("--architecture", spec.architecture)
      ->check(CLI::IsMember(
          {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}));
  app.add_option("--layers", spec.layers);
  app.add_option("--hidden", spec.hidden);
  app.add_option("--intermediate", spec.intermediate);
  app.add_option("--heads", spec.heads);
  app.add_option("--kv-heads", spec.kv_heads);
  app.add_option("--head-dim", spec.head_dim, "0: hidden / heads");
  app.add_option("--vocab", spec.vocab);
  app.add_option("--max-positions", spec.max_position_embeddings);
  app.add_option("--tied", spec.tied, "tie embeddings and lm_head");
  app.add_flag("--attention-bias", spec.attention_bias);
  app.add_flag("--mlp-bias", spec.mlp_bias);
  AddChoice(app, "--rope", kinds, spec.rope.kind);
  app.add_option("--rope-theta", spec.rope.theta);
  app.add_option("--rope-factor", spec.rope.factor);
  app.add_option("--rope-original-positions", spec.rope.original_max_position_embeddings);
  app.add_option("--eos", spec.eos_ids, "token ids that end a text");
  AddChoice(app, "--dtype", dtypes, spec.dtype);
  app.add_option("--shards", spec.shards)->check(CLI::Range(1, 10000));
  app.add_option("--seed", spec.seed);
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "make_random_checkpoint: %s\n", status.ToString().c_str());
  return 1;
}

int Write(const RandomModelSpec& spec, const std::string& dir) {
  const auto start = std::chrono::steady_clock::now();
  const auto wanted = ParseModelConfig(RandomModelConfigJson(spec), "", "flags");
  if (!wanted.ok()) return Fail(wanted.status());
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) return Fail(absl::InternalError(dir + ": " + error.message()));
  if (const absl::Status status = WriteRandomModel(spec, dir); !status.ok()) return Fail(status);

  const auto config = LoadModelConfig(dir);
  if (!config.ok()) return Fail(config.status());
  const auto checkpoint = Checkpoint::Open(dir, *config);
  if (!checkpoint.ok()) return Fail(checkpoint.status());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%s: %s, %.1f M parameters, %.1f MiB %s, %.1f s\n", dir.c_str(),
              spec.architecture.c_str(), static_cast<double>((*checkpoint)->parameters()) / 1e6,
              static_cast<double>((*checkpoint)->total_bytes().value()) / (1 << 20),
              DTypeName((*checkpoint)->dominant_dtype()), took.count());
  return 0;
}

}  // namespace
}  // namespace sluice::testing

int main(int argc, char** argv) {
  CLI::App app("Writes a Hugging Face model directory with random weights.");
  app.option_defaults()->always_capture_default();
  sluice::testing::RandomModelSpec spec;
  std::string preset = sluice::testing::FindPreset(argc, argv);
  std::string out;
  sluice::testing::ApplyPreset(preset, spec);
  app.add_option("--preset", preset, "shape that the other flags change (150m, 1b: bf16)")
      ->check(CLI::IsMember({"tiny", "150m", "1b"}));
  app.add_option("--out", out, "directory, made if need be")->required();
  sluice::testing::AddFlags(app, spec);
  CLI11_PARSE(app, argc, argv);
  return sluice::testing::Write(spec, out);
}
