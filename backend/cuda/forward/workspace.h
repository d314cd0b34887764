// Workspace: the activations of one step in device memory, planned once for the largest step.
//
// The one thing that may grow later is what partial results of attention take: how many there are
// depends on how a step's KV lies in the two pools.
//
// Thread-compatible.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/gpu/gpu.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

class Workspace {
 public:
  // For steps of `rows` tokens, logits of `logit_rows` rows at a time, and `partial_rows` rows of
  // partial results. The account must outlive it. Returns RESOURCE_EXHAUSTED if the device has not
  // that much memory.
  static absl::StatusOr<Workspace> Allocate(const ModelConfig& config, int64_t rows,
                                            int64_t logit_rows, int64_t partial_rows,
                                            MemoryAccount& account);

  // Makes room for `rows` rows of partial results. What runs may use the old ones: cudaFree waits.
  absl::Status ReservePartials(int64_t rows);

  float* residual() const { return Floats(residual_); }  // [rows][hidden]
  void* normed() const { return normed_.data(); }        // half [rows][hidden]
  void* qkv() const { return qkv_.data(); }              // half [rows][q_dim + 2 kv_dim]
  void* queries() const { return queries_.data(); }      // half [rows][q_dim]
  void* attended() const { return attended_.data(); }    // half [rows][q_dim]
  void* delta() const { return delta_.data(); }          // half [rows][hidden]
  void* gate_up() const { return gate_up_.data(); }      // half [rows][2 intermediate]
  void* activated() const { return activated_.data(); }  // half [rows][intermediate]
  float* logits() const { return Floats(logits_); }      // [logit_rows][vocab]
  float* partial() const { return Floats(partial_); }    // [partial rows][q_dim]
  float* lse() const { return Floats(lse_); }            // [partial rows][heads]

  Bytes bytes() const;

 private:
  static float* Floats(const DeviceBuffer& buffer) { return buffer.as<float>(); }

  MemoryAccount* account_ = nullptr;
  int64_t q_dim_ = 0;
  int64_t heads_ = 0;
  int64_t partial_rows_ = 0;
  DeviceBuffer residual_, normed_, qkv_, queries_, attended_, delta_, gate_up_, activated_;
  DeviceBuffer logits_, partial_, lse_;
};

}  // namespace sluice::cuda
