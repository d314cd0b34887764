// ResultBuffer: the small arrays that a step's kernels write and the host wants (tokens,
// log-probabilities), fetched in one copy to pinned memory. The counterpart of ControlBuffer:
//
//   results.Clear();
//   const ResultArray<int32_t> tokens = results.Add<int32_t>(count);   // for every array
//   results.Reserve();
//   kernel(results.Device(tokens));
//   results.Download(stream);
//   ... synchronize ...
//   results.Host(tokens)[0]
//
// Thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

// Where an array lies in a ResultBuffer.
template <class T>
struct ResultArray {
  size_t offset = 0;
  size_t count = 0;
};

class ResultBuffer {
 public:
  // The account must outlive it.
  explicit ResultBuffer(MemoryAccount& account) : account_(account) {}

  void Clear() { size_ = 0; }

  template <class T>
  ResultArray<T> Add(size_t count) {
    const size_t offset = (size_ + kAlignment - 1) / kAlignment * kAlignment;
    size_ = offset + count * sizeof(T);
    return {offset, count};
  }

  // Makes room for what was added. Returns RESOURCE_EXHAUSTED if there is none. What runs may still
  // read the old device memory: cudaFree waits. REQUIRES: the last download has ended.
  absl::Status Reserve();

  // Puts one copy of all arrays into `stream`.
  absl::Status Download(cudaStream_t stream);

  template <class T>
  T* Device(ResultArray<T> array) const {
    return reinterpret_cast<T*>(device_.as<std::byte>() + array.offset);
  }
  // REQUIRES: the copy has ended.
  template <class T>
  std::span<const T> Host(ResultArray<T> array) const {
    const auto* at = pinned_.as<const std::byte>() + array.offset;
    return {reinterpret_cast<const T*>(at), array.count};
  }

 private:
  static constexpr size_t kAlignment = 16;

  MemoryAccount& account_;
  size_t size_ = 0;
  PinnedBuffer pinned_;
  DeviceBuffer device_;
};

}  // namespace sluice::cuda
