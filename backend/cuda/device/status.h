// The one error state that a device does not recover from: DeviceHealth remembers a sticky error
// (gpu/error.h), so that everybody can stop at once.
#pragma once

#include <atomic>
#include <mutex>
#include <string_view>

#include "absl/status/status.h"
#include "backend/cuda/gpu/error.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

// "cudaMalloc" of "cudaMalloc(&p, n)".
constexpr std::string_view CallName(std::string_view call) {
  return call.substr(0, call.find('('));
}

// Thread-safe.
class DeviceHealth {
 public:
  // CudaStatus(error, what); a sticky error marks the device as lost.
  absl::Status Note(cudaError_t error, std::string_view what);
  // A call that waits for work on the device, such as cudaStreamSynchronize. If it fails and the
  // device is all right, the failure was the call's own, and a second one succeeds. If that fails,
  // too, what is under way can no longer be known to have ended, so nothing may be used again: the
  // device counts as lost.
  template <class Call>
  absl::Status Wait(Call call, std::string_view what) {
    cudaError_t error = call();
    if (error != cudaSuccess && !IsSticky(error)) error = call();
    if (error == cudaSuccess) return absl::OkStatus();
    MarkLost(CudaStatus(error, what));
    return status();
  }
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
