// Stream: a CUDA stream, owned. Never blocks on the legacy default stream.
//
// Thread-compatible; work may be put into it from any thread whose current device is its device.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

class Stream {
 public:
  // priority: between DeviceContext::lowest_priority() and highest_priority(). It orders kernels
  // that are ready; copies know no priorities.
  static absl::StatusOr<Stream> Create(int priority = 0) {
    Stream stream;
    SLUICE_CUDA_RETURN_IF_ERROR(
        cudaStreamCreateWithPriority(&stream.stream_, cudaStreamNonBlocking, priority));
    return stream;
  }

  Stream() = default;
  // Does not wait for the work in it.
  ~Stream() {
    if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
  }
  Stream(Stream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }

  cudaStream_t get() const { return stream_; }
  // Waits for all that is in it. The error may be one of work put into it earlier.
  absl::Status Synchronize() const {
    SLUICE_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream_));
    return absl::OkStatus();
  }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace sluice::cuda
