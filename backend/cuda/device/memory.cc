#include "backend/cuda/device/memory.h"

#include <string>

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

template <MemoryKind kKind>
struct Calls;

template <>
struct Calls<MemoryKind::kDevice> {
  static constexpr std::string_view kName = "device";
  static cudaError_t Allocate(void** data, size_t size) { return cudaMalloc(data, size); }
  static cudaError_t Free(void* data) { return cudaFree(data); }
  static std::string WhatIsFree() { return FreeText(); }
  static void Add(MemoryAccount& account, Bytes bytes) { account.AddDevice(bytes); }
};

template <>
struct Calls<MemoryKind::kPinned> {
  static constexpr std::string_view kName = "pinned host";
  static cudaError_t Allocate(void** data, size_t size) {
    return cudaHostAlloc(data, size, cudaHostAllocPortable | cudaHostAllocMapped);
  }
  static cudaError_t Free(void* data) { return cudaFreeHost(data); }
  static std::string WhatIsFree() { return ""; }
  static void Add(MemoryAccount& account, Bytes bytes) { account.AddPinned(bytes); }
};

}  // namespace

template <MemoryKind kKind>
absl::StatusOr<Buffer<kKind>> Buffer<kKind>::Allocate(Bytes size, std::string_view what,
                                                      MemoryAccount& account) {
  Buffer buffer;
  if (size == Bytes(0)) return buffer;
  const cudaError_t error = Calls<kKind>::Allocate(&buffer.data_, size.size());
  if (error != cudaSuccess) {
    buffer.data_ = nullptr;
    return CannotAllocate(error, size, Calls<kKind>::kName, what, Calls<kKind>::WhatIsFree());
  }
  buffer.size_ = size;
  buffer.account_ = &account;
  Calls<kKind>::Add(account, size);
  return buffer;
}

template <MemoryKind kKind>
Buffer<kKind>::~Buffer() {
  if (data_ == nullptr) return;
  static_cast<void>(Calls<kKind>::Free(data_));
  Calls<kKind>::Add(*account_, Bytes(0) - size_);
}

template class Buffer<MemoryKind::kDevice>;
template class Buffer<MemoryKind::kPinned>;

}  // namespace sluice::cuda
