// CudaProbe: times of the parts of the CUDA backend on one GPU, for `sluice calibrate`: copies as
// the link makes them, and kernels as the forward pass does. Times are the device's own, between
// events, but for Step().
//
// This header needs no CUDA. In builds without it Open() returns UNIMPLEMENTED and says how to get
// a build that has it. Thread-compatible.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "backend/probe_timer.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

// Sequences of equal length: `count` tokens each, after `before` tokens whose KV is there.
struct CudaProbeAttention {
  int64_t sequences = 1;
  int64_t before = 0;
  int64_t count = 1;
  int64_t heads = 32;
  int64_t kv_heads = 8;
  int64_t head_dim = 128;
};

class CudaProbe {
 public:
  // `device`: as CudaBackendOptions::device. `large`: of the buffers on either side.
  // Returns FAILED_PRECONDITION without a usable device, RESOURCE_EXHAUSTED without the memory.
  static absl::StatusOr<std::unique_ptr<CudaProbe>> Open(const std::string& device, Bytes large,
                                                         const ProbeControl& control);
  virtual ~CudaProbe() = default;

  virtual std::string device_name() const = 0;  // "NVIDIA H100 PCIe"
  virtual std::string description() const = 0;  // with driver, slot, NUMA node
  virtual Bytes memory() const = 0;             // of the device

  // One copy of half of `large` within the device: as many bytes are read as are written.
  virtual absl::StatusOr<RunTimes> CopyInside() = 0;
  // [rows] x [outputs x inputs], bf16, by the engine that serves.
  virtual absl::StatusOr<RunTimes> Product(int64_t rows, int64_t outputs, int64_t inputs) = 0;
  virtual absl::StatusOr<RunTimes> Attention(const CudaProbeAttention& shape) = 0;
  // Between pinned host memory and the device: `runs` pieces of `size` bytes in one call.
  virtual absl::StatusOr<RunTimes> Copy(LinkDirection direction, Bytes size, int64_t runs) = 0;
  // The same bytes by the gather kernel. REQUIRES: size a multiple of 512.
  virtual absl::StatusOr<RunTimes> Gather(LinkDirection direction, Bytes size, int64_t runs) = 0;
  // A copy of `size` either way at once.
  virtual absl::StatusOr<RunTimes> Duplex(Bytes size) = 0;
  // `kernels` kernels that do hardly anything, one after the other.
  virtual absl::StatusOr<RunTimes> Kernels(int64_t kernels) = 0;
  // On the host's clock: an upload, a small kernel, a download, and waiting for it.
  virtual absl::StatusOr<RunTimes> Step() = 0;
};

}  // namespace sluice
