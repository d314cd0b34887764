// From cudaError_t to absl::Status, and the one error state that a device does not recover from.
//
// Most errors concern one call (no memory, a bad argument). A "sticky" one has destroyed the
// process's context on the device: every later call fails with it, nothing runs any more, and only
// a new process helps. DeviceHealth remembers that, so that everybody can stop at once.
#pragma once

#include <atomic>
#include <mutex>
#include <string_view>

#include "absl/status/status.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

// Whether the error means that the context is lost, by the error's documentation in
// driver_types.h ("must be terminated and relaunched").
bool IsSticky(cudaError_t error);

// OK for cudaSuccess. Otherwise "<what>: <CUDA's name> (<CUDA's text>)", and a remedy where there
// is one:
//   RESOURCE_EXHAUSTED   no memory
//   FAILED_PRECONDITION  no driver, no device, driver too old, device busy
//   UNIMPLEMENTED        the device or system cannot do it
//   UNAVAILABLE          sticky
//   INTERNAL             anything else: a mistake of ours
absl::Status CudaStatus(cudaError_t error, std::string_view what);

// "cudaMalloc" of "cudaMalloc(&p, n)".
constexpr std::string_view CallName(std::string_view call) {
  return call.substr(0, call.find('('));
}

// Thread-safe.
class DeviceHealth {
 public:
  // CudaStatus(error, what); a sticky error marks the device as lost.
  absl::Status Note(cudaError_t error, std::string_view what);
  // Marks the device as lost for a reason that has no sticky code of its own. The first one counts.
  void MarkLost(const absl::Status& why);

  bool lost() const { return lost_.load(std::memory_order_acquire); }
  // OK, or UNAVAILABLE "device lost: ...; restart the process".
  absl::Status status() const;

 private:
  std::atomic<bool> lost_{false};
  mutable std::mutex mu_;
  absl::Status status_;
};

}  // namespace sluice::cuda

// Returns from the enclosing function, with the call's text as what failed, unless it succeeds.
#define SLUICE_CUDA_RETURN_IF_ERROR(call)                                                \
  do {                                                                                   \
    if (const cudaError_t sluice_error_ = (call); sluice_error_ != cudaSuccess)          \
      return ::sluice::cuda::CudaStatus(sluice_error_, ::sluice::cuda::CallName(#call)); \
  } while (false)
