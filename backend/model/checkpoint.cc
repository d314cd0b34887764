#include "backend/model/checkpoint.h"

#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backend/model/files.h"
#include "backend/model/fingerprint.h"
#include "backend/model/json_fields.h"
#include "backend/model/safetensors.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr Bytes kMaxIndexBytes = MiB(100);

// A shard is a plain file name: the index must not reach outside the directory.
bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
}

// Tensor name -> shard file name.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxIndexBytes));
  SLUICE_ASSIGN_OR_RETURN(const json index, ParseJsonObject(text, path));
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": weight_map is missing or not an object of tensor: file"));
  }
  std::map<std::string, std::string> out;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": weight_map.", tensor, ": ",
                                                     DescribeJson(file),
                                                     " is not the name of a file beside it"));
    }
    out.emplace(tensor, file.get<std::string>());
  }
  return out;
}

}  // namespace

// Fills a Checkpoint: maps files, then picks the tensors the config calls for.
class Checkpoint::Loader {
 public:
  Loader(const std::string& dir, const ModelConfig& config, Checkpoint& out)
      : dir_(dir), config_(config), out_(out) {}

  absl::Status Run() {
    SLUICE_RETURN_IF_ERROR(MapFiles());
    SLUICE_RETURN_IF_ERROR(ResolveTop());
    for (int32_t i = 0; i < config_.layers; ++i) SLUICE_RETURN_IF_ERROR(ResolveLayer(i));
    Summarize();
    return absl::OkStatus();
  }

 private:
  struct Found {
    SafetensorsEntry entry;
    std::string file;
  };

  absl::Status MapFiles() {
    if (FileExists(absl::StrCat(dir_, "/", kSingleFile))) return MapFile(kSingleFile, nullptr);
    const std::string index_path = absl::StrCat(dir_, "/", kIndexFile);
    if (!FileExists(index_path)) {
      const std::string other = DescribeOtherWeights(dir_);
      const std::string message =
          absl::StrCat(dir_, ": has neither ", kSingleFile, " nor ", kIndexFile, other);
      return other.empty() ? absl::NotFoundError(message) : absl::UnimplementedError(message);
    }
    SLUICE_ASSIGN_OR_RETURN(const auto index, ReadIndex(index_path));
    std::set<std::string> shards;
    for (const auto& [tensor, file] : index) shards.insert(file);
    for (const std::string& shard : shards) SLUICE_RETURN_IF_ERROR(MapFile(shard, &index));
    for (const auto& [tensor, file] : index) {
      if (found_.count(tensor) != 0) continue;
      return absl::NotFoundError(absl::StrCat(dir_, "/", file, ": has no tensor ", tensor,
                                              ", which ", kIndexFile, " places there"));
    }
    return absl::OkStatus();
  }

  // Notes the tensors of one file; of a shard those that `index` places there.
  absl::Status MapFile(const std::string& name, const std::map<std::string, std::string>* index) {
    const std::string path = absl::StrCat(dir_, "/", name);
    SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, MappedFile::Open(path));
    SLUICE_ASSIGN_OR_RETURN(std::vector<SafetensorsEntry> entries,
                            ParseSafetensors(file->bytes(), path));
    for (SafetensorsEntry& entry : entries) {
      if (index != nullptr) {
        const auto it = index->find(entry.view.name);
        if (it == index->end() || it->second != name) continue;
      }
      std::string key = entry.view.name;
      found_.emplace(std::move(key), Found{std::move(entry), path});
    }
    out_.files_.push_back(std::move(file));
    return absl::OkStatus();
  }

  // Sets `*out` to tensor `name` after checking dtype and shape.
  absl::Status Resolve(const std::string& name, const std::vector<int64_t>& shape,
                       const TensorView** out) {
    const auto it = found_.find(name);
    if (it == found_.end()) {
      return absl::NotFoundError(absl::StrCat(
          dir_, ": the weights have no tensor ", name, ", which ", config_.architecture, " needs",
          name == "lm_head.weight" ? " (tie_word_embeddings is false in config.json)" : ""));
    }
    const auto& [entry, file] = it->second;
    const std::string place = absl::StrCat(file, ": tensor ", name);
    if (!entry.supported) {
      return absl::UnimplementedError(absl::StrCat(
          place, ": dtype ", entry.dtype, " is not supported; supported are F32, F16, BF16"));
    }
    if (entry.view.shape != shape) {
      return absl::InvalidArgumentError(
          absl::StrCat(place, ": has shape [", absl::StrJoin(entry.view.shape, ", "),
                       "], config.json calls for [", absl::StrJoin(shape, ", "), "]"));
    }
    *out = &out_.tensors_.emplace(name, entry.view).first->second;
    return absl::OkStatus();
  }

  absl::Status ResolveTop() {
    const int64_t hidden = config_.hidden;
    const std::vector<int64_t> table = {config_.vocab, hidden};
    SLUICE_RETURN_IF_ERROR(Resolve("model.embed_tokens.weight", table, &out_.embedding_));
    SLUICE_RETURN_IF_ERROR(Resolve("model.norm.weight", {hidden}, &out_.final_norm_));
    out_.lm_head_ = out_.embedding_;
    if (config_.tie_word_embeddings) return absl::OkStatus();
    return Resolve("lm_head.weight", table, &out_.lm_head_);
  }

  absl::Status ResolveLayer(int32_t index) {
    const std::string prefix = absl::StrCat("model.layers.", index, ".");
    const int64_t hidden = config_.hidden;
    const int64_t ff = config_.intermediate;
    const int64_t q = config_.q_dim();
    const int64_t kv = config_.kv_dim();
    LayerTensors t;
    struct Want {
      const char* name;
      std::vector<int64_t> shape;
      const TensorView** out;
      bool needed = true;
    };
    const Want wants[] = {
        {"input_layernorm.weight", {hidden}, &t.input_norm},
        {"self_attn.q_proj.weight", {q, hidden}, &t.q},
        {"self_attn.k_proj.weight", {kv, hidden}, &t.k},
        {"self_attn.v_proj.weight", {kv, hidden}, &t.v},
        {"self_attn.o_proj.weight", {hidden, q}, &t.o},
        {"self_attn.q_proj.bias", {q}, &t.q_bias, config_.qkv_bias},
        {"self_attn.k_proj.bias", {kv}, &t.k_bias, config_.qkv_bias},
        {"self_attn.v_proj.bias", {kv}, &t.v_bias, config_.qkv_bias},
        {"self_attn.o_proj.bias", {hidden}, &t.o_bias, config_.output_bias},
        {"self_attn.q_norm.weight", {config_.head_dim}, &t.q_norm, config_.qk_norm},
        {"self_attn.k_norm.weight", {config_.head_dim}, &t.k_norm, config_.qk_norm},
        {"post_attention_layernorm.weight", {hidden}, &t.post_attention_norm},
        {"mlp.gate_proj.weight", {ff, hidden}, &t.gate},
        {"mlp.up_proj.weight", {ff, hidden}, &t.up},
        {"mlp.down_proj.weight", {hidden, ff}, &t.down},
        {"mlp.gate_proj.bias", {ff}, &t.gate_bias, config_.mlp_bias},
        {"mlp.up_proj.bias", {ff}, &t.up_bias, config_.mlp_bias},
        {"mlp.down_proj.bias", {hidden}, &t.down_bias, config_.mlp_bias},
    };
    for (const Want& want : wants) {
      if (!want.needed) continue;
      SLUICE_RETURN_IF_ERROR(Resolve(absl::StrCat(prefix, want.name), want.shape, want.out));
    }
    out_.layers_.push_back(t);
    return absl::OkStatus();
  }

  void Summarize() {
    std::array<int64_t, 3> bytes_of{};  // by DType
    std::map<std::string, const TensorView*> views;
    for (const auto& [name, view] : out_.tensors_) {
      views.emplace(name, &view);
      bytes_of[static_cast<size_t>(view.dtype)] += static_cast<int64_t>(view.data.size());
      out_.total_bytes_ += Bytes(static_cast<int64_t>(view.data.size()));
      out_.parameters_ += view.elements();
    }
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      if (bytes_of[static_cast<size_t>(dtype)] >
          bytes_of[static_cast<size_t>(out_.dominant_dtype_)]) {
        out_.dominant_dtype_ = dtype;
      }
    }
    out_.fingerprint_ = ModelFingerprint(config_, views);
  }

  const std::string& dir_;
  const ModelConfig& config_;
  Checkpoint& out_;
  std::map<std::string, Found> found_;
};

Checkpoint::Checkpoint() = default;
Checkpoint::~Checkpoint() = default;

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& dir,
                                                             const ModelConfig& config) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint());
  SLUICE_RETURN_IF_ERROR(Loader(dir, config, *checkpoint).Run());
  return checkpoint;
}

}  // namespace sluice
