// Memory of the device and small pinned memory of the host, owned and accounted for to the byte.
// (The pool of host blocks is large and registered piece by piece: pinned_pool.h.)
//
// Allocation synchronizes the device on some systems: everything is allocated at start.
#pragma once

#include <atomic>
#include <cstddef>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

// What is allocated now. Thread-safe.
class MemoryAccount {
 public:
  Bytes device() const { return Bytes(device_.load(std::memory_order_relaxed)); }
  Bytes pinned() const { return Bytes(pinned_.load(std::memory_order_relaxed)); }

  void AddDevice(Bytes bytes) { device_.fetch_add(bytes.value(), std::memory_order_relaxed); }
  void AddPinned(Bytes bytes) { pinned_.fetch_add(bytes.value(), std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> device_{0};
  std::atomic<int64_t> pinned_{0};
};

enum class MemoryKind { kDevice, kPinned };

// Memory of one kind, owned. Its content is undefined.
//   kDevice  aligned to 256 bytes; its destructor waits until the device has finished all work, as
//            cudaFree does
//   kPinned  host memory that kernels may access, too, at the same address; for staging
template <MemoryKind kKind>
class Buffer {
 public:
  // The account must outlive the buffer. `what` names it in the error: "the KV pool".
  // Returns RESOURCE_EXHAUSTED with what is free if it does not fit. Zero bytes are fine.
  static absl::StatusOr<Buffer> Allocate(Bytes size, std::string_view what, MemoryAccount& account);

  Buffer() = default;
  ~Buffer();
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, Bytes(0))),
        account_(std::exchange(other.account_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(account_, other.account_);
    return *this;
  }

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  Bytes size() const { return size_; }

 private:
  void* data_ = nullptr;
  Bytes size_;
  MemoryAccount* account_ = nullptr;
};

using DeviceBuffer = Buffer<MemoryKind::kDevice>;
using PinnedBuffer = Buffer<MemoryKind::kPinned>;

}  // namespace sluice::cuda
