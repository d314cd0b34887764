// CudaBackend: models on one NVIDIA GPU, KV offloaded to pinned host memory.
//
// This header needs no CUDA. In builds without it (SLUICE_CUDA=OFF) Create() returns UNIMPLEMENTED
// and says how to get a build that has it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "backend/backend.h"
#include "backend/kv/kv_codec.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"

namespace sluice {

struct CudaBackendOptions {
  // --- Behaviour ---
  // An ordinal, a UUID or its beginning, or a PCI address; empty: the first device.
  std::string device;
  Tokens tokens_per_block{32};  // a multiple of 16 in [16, 256]
  // Unset: what `gpu_memory_utilization` of the device's memory leaves beside weights and
  // activations.
  std::optional<Blocks> device_blocks;
  double gpu_memory_utilization = 0.9;  // in (0, 1]; of all processes together
  Blocks host_blocks{0};
  // What blocks are on the host: raw (bf16, as on the device), fp8 or int8.
  KvCodecKind host_codec = KvCodecKind::kRaw;
  Tokens max_model_len{2048};
  Tokens max_step_tokens{512};
  // How far loading the weights has got. May be empty.
  std::function<void(Bytes done, Bytes total)> progress;

  // --- Performance ---
  Bytes weight_piece = MiB(16);  // of the pinned ring that weights go through

  // Every time it reports is on this clock, the caller's; it must not go back.
  std::function<absl::Time()> clock = absl::Now;
};

class CudaBackend {
 public:
  // Loads the weights and starts. `checkpoint` may go away afterwards.
  // Returns UNIMPLEMENTED in builds without CUDA, and for models and codecs that the kernels do not
  // take,
  // FAILED_PRECONDITION without a usable device, INVALID_ARGUMENT naming the option out of range,
  // RESOURCE_EXHAUSTED if memory is not enough.
  static absl::StatusOr<std::unique_ptr<Backend>> Create(const ModelConfig& config,
                                                         const Checkpoint& checkpoint,
                                                         const CudaBackendOptions& options);

  // What one KV block of `config` takes on the device, and on the host under `codec`. Needs no
  // device.
  static KvGeometry Geometry(const ModelConfig& config, Tokens tokens_per_block);
  static KvGeometry HostGeometry(const ModelConfig& config, Tokens tokens_per_block,
                                 KvCodecKind codec);
};

}  // namespace sluice
