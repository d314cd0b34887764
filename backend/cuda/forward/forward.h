// Forward: one pass of the decoder over the tokens of a step, put into a stream.
//
//   ids -> embedding -> layers x { norm, qkv, rope + KV write, attention, o, norm, SwiGLU } -> norm
//       -> lm_head, for the rows that ask
//
// The residual stream is float; matrix inputs are bf16, sums float; KV is what the pool has: bf16,
// or 8-bit with scales. Nothing here waits for the device.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/forward/control_buffer.h"
#include "backend/cuda/forward/step_tables.h"
#include "backend/cuda/forward/workspace.h"
#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/gemm_engine.h"
#include "backend/cuda/link/kv_pools.h"
#include "backend/cuda/weights/device_weights.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

struct ForwardOptions {
  Tokens max_positions{2048};  // the rotation table has so many rows
  Tokens max_rows{512};        // tokens of a step
  int32_t multiprocessors = 1;
};

// Whether there are kernels for `config`. Returns UNIMPLEMENTED with the field and what there is.
absl::Status CheckSupported(const ModelConfig& config);

class Forward {
 public:
  // Rows that Logits() takes at a time, at most.
  static constexpr int32_t kLogitRows = 64;

  using LayerFn = absl::FunctionRef<absl::Status(int layer)>;

  // Uploads the rotation table through `stream`, into which all work goes. All arguments must
  // outlive it. Returns RESOURCE_EXHAUSTED if the device has no room for the
  // activations. REQUIRES: CheckSupported(config).ok().
  static absl::StatusOr<std::unique_ptr<Forward>> Create(const ModelConfig& config,
                                                         const DeviceWeights& weights,
                                                         const ForwardOptions& options,
                                                         GemmEngine& gemm, cudaStream_t stream,
                                                         MemoryAccount& account);

  // Where KV lies. Call before the first Run(): the pool gets the memory that Create() has left.
  void SetPools(const CudaKvPools& pools) { pools_ = pools; }

  // How LayOutStep() is to plan this model's attention.
  const AttentionPlanOptions& attention() const { return attention_; }

  // Enqueues the pass over `step`, whose tables are in `control` and uploaded. Calls
  // before_attention(i) before it enqueues what writes or reads layer i of the pool; that may make
  // the stream wait, and an error from it ends the pass. REQUIRES: at most max_rows tokens,
  // positions below max_positions.
  absl::Status Run(const StepTables& step, const ControlBuffer& control, LayerFn before_attention);

  // After Run() with the same step: enqueues the logits of its logit rows [first, first + count).
  // Returns where they will be, float [count][vocab], until the next call.
  // REQUIRES: 0 < count <= kLogitRows.
  absl::StatusOr<float*> Logits(const StepTables& step, const ControlBuffer& control, int32_t first,
                                int32_t count);

  Bytes bytes() const { return workspace_.bytes() + rotation_.size(); }

 private:
  Forward(const ModelConfig& config, const DeviceWeights& weights, const ForwardOptions& options,
          GemmEngine& gemm, cudaStream_t stream);

  absl::Status Prepare(MemoryAccount& account);
  absl::Status ReserveFp8();
  absl::Status UploadRotation(MemoryAccount& account);
  absl::Status RunLayer(int index, LayerFn before_attention);
  absl::Status Normalize(const void* delta, const void* weight);
  absl::Status Project(const DeviceLayer& layer);
  absl::Status PlaceKv(const DeviceLayer& layer, int index);
  absl::Status Attend(int index);
  absl::Status FeedForward(const DeviceLayer& layer);
  absl::Status Multiply(const void* input, int32_t rows, const DeviceMatrix& weights,
                        const void* bias, int64_t k, int64_t n, void* out);

  const ModelConfig& config_;
  const DeviceWeights& weights_;
  const ForwardOptions options_;
  GemmEngine& gemm_;
  const cudaStream_t stream_;
  AttentionPlanOptions attention_;
  Workspace workspace_;
  CudaKvPools pools_;
  DeviceBuffer rotation_;  // float2 [max_positions][head_dim / 2]

  // The step at hand.
  const StepTables* step_ = nullptr;
  const ControlBuffer* control_ = nullptr;
};

}  // namespace sluice::cuda
