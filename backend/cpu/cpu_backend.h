// CpuBackend: real models on the CPU, the embedded default.
//
// Weights: packed once at start into oneDNN's layout (bf16 or f32). KV: a device pool (paged, in
// the layout the attention kernels want) and a host pool (one contiguous run per block), with one
// link worker thread copying between them. Matrix products by oneDNN, attention by our own kernels,
// split over pinned worker threads.
//
// A row's result does not depend on what else is in the batch, on chunk boundaries or on the number
// of threads: offloading, batching and preemption change no greedy answer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "backend/backend.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"

namespace sluice {

enum class CpuDType : uint8_t { kAuto, kF32, kBF16 };

struct CpuBackendOptions {
  // --- Behaviour ---
  CpuDType dtype =
      CpuDType::kAuto;          // kAuto: bf16 if most of the checkpoint is bf16 or f16, else f32
  Tokens tokens_per_block{32};  // a multiple of 16 in [16, 256]
  Blocks device_blocks{1024};
  Blocks host_blocks{0};
  Tokens max_model_len{2048};  // bounds scratch memory
  Tokens max_step_tokens{512};
  // Checksum every block stored to the host and fail a load that does not match (DATA_LOSS).
  bool verify_host_blocks = false;

  // --- Performance ---
  int threads = 0;          // compute threads; 0 = one per CPU this process may run on
  bool pin_threads = true;  // each worker to a CPU of its own
  // Paces copies to this many 10^9 bytes per second per direction; 0 = as fast as memory.
  double link_gbps = 0;

  // Every time it reports is on this clock, the caller's; it must not go back.
  std::function<absl::Time()> clock = absl::Now;
};

class CpuBackend {
 public:
  // Packs the weights (progress is logged by the caller). `checkpoint` may go away afterwards.
  // Returns INVALID_ARGUMENT naming the option out of range, RESOURCE_EXHAUSTED if the pools cannot
  // be allocated.
  static absl::StatusOr<std::unique_ptr<Backend>> Create(const ModelConfig& config,
                                                         const Checkpoint& checkpoint,
                                                         const CpuBackendOptions& options);

  // What one KV block of `config` takes under `options`.
  static absl::StatusOr<KvGeometry> Geometry(const ModelConfig& config,
                                             const Checkpoint& checkpoint,
                                             const CpuBackendOptions& options);
};

}  // namespace sluice
