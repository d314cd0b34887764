#include "backend/cuda/forward/result_buffer.h"

#include <algorithm>

#include "backend/cuda/device/status.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {
namespace {

constexpr int64_t kLeastBytes = 16 << 10;
constexpr char kWhat[] = "the results of a step";

}  // namespace

absl::Status ResultBuffer::Reserve() {
  const auto size = static_cast<int64_t>(size_);
  if (size <= device_.size().value()) return absl::OkStatus();
  const Bytes capacity(std::max(kLeastBytes, 2 * size));
  SLUICE_ASSIGN_OR_RETURN(pinned_, PinnedBuffer::Allocate(capacity, kWhat, account_));
  SLUICE_ASSIGN_OR_RETURN(device_, DeviceBuffer::Allocate(capacity, kWhat, account_));
  return absl::OkStatus();
}

absl::Status ResultBuffer::Download(cudaStream_t stream) {
  if (size_ == 0) return absl::OkStatus();
  return CudaStatus(
      cudaMemcpyAsync(pinned_.data(), device_.data(), size_, cudaMemcpyDeviceToHost, stream),
      "copy of a step's results");
}

}  // namespace sluice::cuda
