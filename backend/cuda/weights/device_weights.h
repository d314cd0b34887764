// DeviceWeights: a checkpoint in device memory, in bf16, laid out for the forward pass.
//
// Matrices are as in the files, [out][in]; what one product reads lies together (q, k and v; gate
// and up). All of it is one allocation, every array at a multiple of 256 bytes.
//
// Asked for fp8, the matrices of the layers are E4M3 codes with a float scale per output channel
// (kernels/quantize_rows.h), quantized on the device as they arrive, from bf16: half the memory,
// and half the bytes that a decode step reads. Embedding, lm_head, norms and biases stay in bf16.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/weights/weight_uploader.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

// What the matrices of the layers are.
enum class WeightType : uint8_t { kBf16, kFp8E4m3 };

// A matrix [out][in]: halves, or codes if there are scales.
struct DeviceMatrix {
  const void* data = nullptr;
  const float* scales = nullptr;  // [out]; null: halves
};

// Device addresses; null: the model has none.
struct DeviceLayer {
  const void* input_norm = nullptr;  // [hidden]
  DeviceMatrix qkv;                  // [q_dim + 2 kv_dim][hidden]
  const void* qkv_bias = nullptr;    // [q_dim + 2 kv_dim]
  const void* q_norm = nullptr;      // [head_dim]
  const void* k_norm = nullptr;      // [head_dim]
  DeviceMatrix o;                    // [hidden][q_dim]
  const void* o_bias = nullptr;      // [hidden]
  const void* post_attention_norm = nullptr;
  DeviceMatrix gate_up;                // [2 intermediate][hidden]: gate, then up
  const void* gate_up_bias = nullptr;  // [2 intermediate]
  DeviceMatrix down;                   // [hidden][intermediate]
  const void* down_bias = nullptr;     // [hidden]
};

class DeviceWeights {
 public:
  using Progress = std::function<void(Bytes done, Bytes total)>;

  // Device memory that `config` will take.
  static Bytes BytesFor(const ModelConfig& config, const Checkpoint& checkpoint,
                        WeightType type = WeightType::kBf16);

  // Blocks until everything is in place, through `stream`; `checkpoint` may then go away. `piece`:
  // see WeightUploader. `progress` may be empty.
  // Returns RESOURCE_EXHAUSTED if the device or pinned memory is not enough, else the device's
  // error.
  static absl::StatusOr<std::unique_ptr<DeviceWeights>> Load(
      const ModelConfig& config, const Checkpoint& checkpoint, cudaStream_t stream, Bytes piece,
      MemoryAccount& account, const Progress& progress, WeightType type = WeightType::kBf16);

  const void* embedding() const { return embedding_; }    // [vocab][hidden]
  const void* final_norm() const { return final_norm_; }  // [hidden]
  const void* lm_head() const { return lm_head_; }        // [vocab][hidden]
  const std::vector<DeviceLayer>& layers() const { return layers_; }
  WeightType type() const { return type_; }
  Bytes bytes() const { return memory_.size(); }

 private:
  class Arranger;

  void Arrange(const ModelConfig& config, const Checkpoint& checkpoint, Arranger& arranger);
  struct Placed;
  static absl::Status Quantize(const Placed& placed, const DeviceBuffer& staging,
                               cudaStream_t stream, WeightUploader& uploader);

  WeightType type_ = WeightType::kBf16;
  DeviceBuffer memory_;
  const void* embedding_ = nullptr;
  const void* final_norm_ = nullptr;
  const void* lm_head_ = nullptr;
  std::vector<DeviceLayer> layers_;
};

}  // namespace sluice::cuda
