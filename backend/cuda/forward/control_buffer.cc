#include "backend/cuda/forward/control_buffer.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/device/status.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {
namespace {

constexpr int64_t kLeastBytes = 64 << 10;
constexpr char kWhat[] = "the tables of a step";

}  // namespace

size_t ControlBuffer::Append(const void* values, size_t size) {
  const size_t offset = (bytes_.size() + kAlignment - 1) / kAlignment * kAlignment;
  bytes_.resize(offset + size);
  if (size > 0) std::memcpy(bytes_.data() + offset, values, size);
  return offset;
}

absl::Status ControlBuffer::Upload(cudaStream_t stream) {
  if (bytes_.empty()) return absl::OkStatus();
  const auto size = static_cast<int64_t>(bytes_.size());
  if (size > device_.size().value()) {
    const Bytes capacity(std::max(kLeastBytes, 2 * size));
    SLUICE_ASSIGN_OR_RETURN(pinned_, PinnedBuffer::Allocate(capacity, kWhat, account_));
    SLUICE_ASSIGN_OR_RETURN(device_, DeviceBuffer::Allocate(capacity, kWhat, account_));
  }
  std::memcpy(pinned_.data(), bytes_.data(), bytes_.size());
  return CudaStatus(cudaMemcpyAsync(device_.data(), pinned_.data(), bytes_.size(),
                                    cudaMemcpyHostToDevice, stream),
                    "copy of a step's tables");
}

}  // namespace sluice::cuda
