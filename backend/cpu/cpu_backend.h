// CpuBackend: real models on the CPU, the embedded default.
//
// Weights: packed once at start into oneDNN's layout (bf16 or f32). KV: a device pool (paged, in
// the layout the attention kernels want) and a host pool (one contiguous run per block), with one
// link worker thread copying between them. A disk tier, if there is one, has two threads of its own
// beside that. Matrix products by oneDNN, attention by our own kernels,
// split over pinned worker threads.
//
// A row's result does not depend on what else is in the batch, on chunk boundaries or on the number
// of threads: offloading, batching and preemption change no greedy answer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "backend/backend.h"
#include "backend/kv/block_store.h"
#include "backend/kv/host_pool.h"
#include "backend/kv/kv_codec.h"
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
  // What blocks are on the host (raw keeps every bit) and on the disk; see KvRecoder for what may
  // follow what.
  KvCodecKind host_codec = KvCodecKind::kRaw;
  KvCodecKind disk_codec = KvCodecKind::kRaw;
  HostMemoryOptions host_memory;  // of the host pool
  // The disk tier, scanned; null: none. Not owned, and must outlive the backend. Its shape must be
  // that of the blocks (DiskShape()).
  BlockStore* disk = nullptr;
  // Tells a person what goes wrong there. May be empty; called by other threads.
  std::function<void(const std::string&)> disk_log;
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

  // What one KV block of `config` takes on the device under `options`.
  static absl::StatusOr<KvGeometry> Geometry(const ModelConfig& config,
                                             const Checkpoint& checkpoint,
                                             const CpuBackendOptions& options);
  // And on the host.
  static absl::StatusOr<KvGeometry> HostGeometry(const ModelConfig& config,
                                                 const Checkpoint& checkpoint,
                                                 const CpuBackendOptions& options);

  // The shape of blocks of `config` in a store, without its number of slots, and what their numbers
  // have been rounded by (KvRecoder::name()).
  static absl::StatusOr<StoreShape> DiskShape(const ModelConfig& config,
                                              const Checkpoint& checkpoint,
                                              const CpuBackendOptions& options);
  static absl::StatusOr<std::string> DiskCodec(const ModelConfig& config,
                                               const Checkpoint& checkpoint,
                                               const CpuBackendOptions& options);
  // "bf16" or "f32": what KV is stored as under `options`.
  static std::string KvDType(const Checkpoint& checkpoint, const CpuBackendOptions& options);
};

}  // namespace sluice
