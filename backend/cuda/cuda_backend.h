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
#include "backend/kv/block_store.h"
#include "backend/kv/kv_codec.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/measure.h"

namespace sluice {

// What copies between host and device take, from `sluice calibrate --backend cuda`. The defaults:
// any PCIe 4 x16 slot.
struct CudaLinkRates {
  ByteRate rate{20e9};             // sustained, of the slower direction
  Seconds per_descriptor{0.6e-6};  // of the copy engine
  // Descriptors with fewer bytes move faster by the gather kernel. 0: none do.
  Bytes kernel_below{32 << 10};
};

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
  // The matrices of the layers as E4M3 with a scale per output channel, quantized when they are
  // loaded; multiplied in 8 bits where device and library can, else widened by our own kernel.
  // Embedding, lm_head and norms stay in bf16.
  bool fp8_weights = false;
  // Matrix products by our own kernel, which gives a row the same bits in every batch. Attention
  // and all else do so anyway: then what a request says depends on itself only. Slower than
  // cuBLASLt.
  bool batch_invariant = false;
  // What KV is on the device: raw (bf16), fp8 or int8. Kernels write it so and attend to it so.
  KvCodecKind device_codec = KvCodecKind::kRaw;
  // What blocks are on the host: raw (as on the device), fp8 or int8. A device whose KV is not bf16
  // takes raw or its own: what is rounded once is not rounded again, and never back.
  KvCodecKind host_codec = KvCodecKind::kRaw;
  // The storage tier, scanned; null: none. Not owned, and must outlive the backend. Its shape must
  // be that of the blocks (DiskShape()). What blocks are there: as on the host, or smaller.
  BlockStore* disk = nullptr;
  KvCodecKind disk_codec = KvCodecKind::kRaw;
  // Tells a person what goes wrong there. May be empty; called by other threads.
  std::function<void(const std::string&)> disk_log;
  Tokens max_model_len{2048};
  Tokens max_step_tokens{512};
  // How far loading the weights has got. May be empty.
  std::function<void(Bytes done, Bytes total)> progress;

  // --- Performance ---
  Bytes weight_piece = MiB(16);  // of the pinned ring that weights go through
  CudaLinkRates link;

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

  // What one KV block of `config` takes on the device under `device`, and on the host if that has
  // `codec` (HostCodec()), scales included. Needs no device.
  static KvGeometry Geometry(const ModelConfig& config, Tokens tokens_per_block,
                             KvCodecKind device = KvCodecKind::kRaw);
  static KvGeometry HostGeometry(const ModelConfig& config, Tokens tokens_per_block,
                                 KvCodecKind codec);
  // What host blocks are, of bf16 numbers: the host's own codec, or else the device's.
  static KvCodecKind HostCodec(KvCodecKind device, KvCodecKind host) {
    return host == KvCodecKind::kRaw ? device : host;
  }
  // "bf16", "fp8" or "int8": what KV is where it is computed and attended to. Numbers read through
  // another are others, so it belongs to what names stored blocks (DiskNamespace::dtype), also
  // where the stored bytes are of the same codec.
  static std::string KvDType(KvCodecKind device);

  // The shape of blocks of `config` in a store, without its number of slots, and what their numbers
  // have been rounded by (KvRecoder::name()), under the options' block size and codecs.
  // Returns INVALID_ARGUMENT if the store's codec cannot follow the host's.
  static absl::StatusOr<StoreShape> DiskShape(const ModelConfig& config,
                                              const CudaBackendOptions& options);
  static absl::StatusOr<std::string> DiskCodec(const ModelConfig& config,
                                               const CudaBackendOptions& options);
};

}  // namespace sluice
