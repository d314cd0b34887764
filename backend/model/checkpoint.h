// Checkpoint: the weights of a Hugging Face model directory, memory-mapped and checked.
//
// One model.safetensors or the shards that model.safetensors.index.json names. Nothing is read
// before it is used; the header of every file is validated first (lengths, offsets, shapes, dtypes,
// overlaps), so that a truncated or corrupt file is an error here and never a fault later.
//
// Thread-compatible; const methods may run concurrently.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"

namespace sluice {

class MappedFile;

enum class DType : uint8_t { kF32, kF16, kBF16 };
int64_t ElementSize(DType dtype);
const char* DTypeName(DType dtype);  // "f32", "f16", "bf16"

// A tensor inside a mapped file. Row-major; may be unaligned for its dtype.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;

  int64_t elements() const;
};

// Copies `count` elements from element `first` of `tensor` to floats. Exact for f32, f16, bf16.
// REQUIRES: the range is inside the tensor.
void ReadFloats(const TensorView& tensor, int64_t first, std::span<float> out);

// One decoder layer. Weights are [out, in] as in PyTorch's Linear. Null: the family has none.
struct LayerTensors {
  const TensorView* input_norm = nullptr;  // [hidden]
  const TensorView* q = nullptr;           // [heads * head_dim, hidden]
  const TensorView* k = nullptr;           // [kv_heads * head_dim, hidden]
  const TensorView* v = nullptr;           // [kv_heads * head_dim, hidden]
  const TensorView* o = nullptr;           // [hidden, heads * head_dim]
  const TensorView* q_bias = nullptr;
  const TensorView* k_bias = nullptr;
  const TensorView* v_bias = nullptr;
  const TensorView* o_bias = nullptr;
  const TensorView* q_norm = nullptr;               // [head_dim]
  const TensorView* k_norm = nullptr;               // [head_dim]
  const TensorView* post_attention_norm = nullptr;  // [hidden]
  const TensorView* gate = nullptr;                 // [intermediate, hidden]
  const TensorView* up = nullptr;                   // [intermediate, hidden]
  const TensorView* down = nullptr;                 // [hidden, intermediate]
  const TensorView* gate_bias = nullptr;
  const TensorView* up_bias = nullptr;
  const TensorView* down_bias = nullptr;
};

class Checkpoint {
 public:
  // Maps every weight file of `dir` and resolves the tensors `config` calls for.
  // Returns NOT_FOUND naming a missing file or tensor, INVALID_ARGUMENT naming file, tensor and
  // what is wrong with it (shape, offsets, truncation), UNIMPLEMENTED for GGUF or PyTorch weights
  // and for a needed tensor whose dtype is not F32, F16 or BF16.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& dir,
                                                          const ModelConfig& config);
  ~Checkpoint();
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  const TensorView& embedding() const { return *embedding_; }    // [vocab, hidden]
  const TensorView& final_norm() const { return *final_norm_; }  // [hidden]
  const TensorView& lm_head() const { return *lm_head_; }  // [vocab, hidden]; embedding() if tied
  const std::vector<LayerTensors>& layers() const { return layers_; }

  // The dtype of most weight bytes: what `--dtype auto` keeps.
  DType dominant_dtype() const { return dominant_dtype_; }
  // Of the tensors the model needs; tied ones count once.
  Bytes total_bytes() const { return total_bytes_; }
  int64_t parameters() const { return parameters_; }

  // XXH3-128 over config, tensor names, shapes, dtypes and a sample of the bytes, as 32 hex digits:
  // tells apart caches of different models.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  Checkpoint();
  class Loader;

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::map<std::string, TensorView> tensors_;  // those the model needs
  const TensorView* embedding_ = nullptr;
  const TensorView* final_norm_ = nullptr;
  const TensorView* lm_head_ = nullptr;
  std::vector<LayerTensors> layers_;
  DType dominant_dtype_ = DType::kF32;
  Bytes total_bytes_;
  int64_t parameters_ = 0;
  std::string fingerprint_;
};

}  // namespace sluice
