#include "backend/cuda/device/memory.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {
namespace {

std::string FreeText() {
  size_t free = 0;
  size_t total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return "";
  return absl::StrCat("; ", free >> 20, " of ", total >> 20, " MiB are free");
}

absl::Status CannotAllocate(cudaError_t error, Bytes size, std::string_view kind,
                            std::string_view what, const std::string& more) {
  const absl::Status status = CudaStatus(error, "allocation");
  return absl::Status(
      status.code(), absl::StrCat("cannot allocate ", size.value(), " bytes of ", std::string(kind),
                                  " memory for ", std::string(what), more, ": ", status.message()));
}

}  // namespace

absl::StatusOr<DeviceBuffer> DeviceBuffer::Allocate(Bytes size, std::string_view what,
                                                    MemoryAccount& account) {
  DeviceBuffer buffer;
  if (size == Bytes(0)) return buffer;
  if (const cudaError_t error = cudaMalloc(&buffer.data_, size.size()); error != cudaSuccess) {
    buffer.data_ = nullptr;
    return CannotAllocate(error, size, "device", what, FreeText());
  }
  buffer.size_ = size;
  buffer.account_ = &account;
  account.AddDevice(size);
  return buffer;
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ == nullptr) return;
  static_cast<void>(cudaFree(data_));
  account_->AddDevice(Bytes(0) - size_);
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, Bytes(0))),
      account_(std::exchange(other.account_, nullptr)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(account_, other.account_);
  return *this;
}

absl::StatusOr<PinnedBuffer> PinnedBuffer::Allocate(Bytes size, std::string_view what,
                                                    MemoryAccount& account) {
  PinnedBuffer buffer;
  if (size == Bytes(0)) return buffer;
  constexpr unsigned kFlags = cudaHostAllocPortable | cudaHostAllocMapped;
  if (const cudaError_t error = cudaHostAlloc(&buffer.data_, size.size(), kFlags);
      error != cudaSuccess) {
    buffer.data_ = nullptr;
    return CannotAllocate(error, size, "pinned host", what, "");
  }
  buffer.size_ = size;
  buffer.account_ = &account;
  account.AddPinned(size);
  return buffer;
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ == nullptr) return;
  static_cast<void>(cudaFreeHost(data_));
  account_->AddPinned(Bytes(0) - size_);
}

PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, Bytes(0))),
      account_(std::exchange(other.account_, nullptr)) {}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(account_, other.account_);
  return *this;
}

}  // namespace sluice::cuda
