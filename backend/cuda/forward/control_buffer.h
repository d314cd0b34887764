// ControlBuffer: the small arrays that a step's kernels read (token ids, positions, block tables,
// work lists, sampling rows), gathered on the host and sent in one copy from pinned memory.
//
//   control.Clear();
//   const ControlArray<int32_t> ids = control.Add<int32_t>(values);
//   control.Upload(stream);
//   kernel(control.At(ids), ids.count);      // device address
//
// Thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

// Where an array lies in a ControlBuffer.
template <class T>
struct ControlArray {
  size_t offset = 0;
  int32_t count = 0;
};

class ControlBuffer {
 public:
  // The account must outlive it.
  explicit ControlBuffer(MemoryAccount& account) : account_(account) {}

  // Forgets what was added. REQUIRES: the last upload has ended.
  void Clear() { bytes_.clear(); }

  template <class T>
  ControlArray<T> Add(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= kAlignment);
    return {Append(values.data(), values.size_bytes()), static_cast<int32_t>(values.size())};
  }

  // Puts one copy of everything added into `stream`. Both memories grow where need be, which only
  // the largest step so far does. Returns RESOURCE_EXHAUSTED if they cannot.
  absl::Status Upload(cudaStream_t stream);

  // Device address. Valid from Upload() to the next one.
  template <class T>
  const T* At(ControlArray<T> array) const {
    return reinterpret_cast<const T*>(device_.as<const std::byte>() + array.offset);
  }

 private:
  static constexpr size_t kAlignment = 16;

  size_t Append(const void* values, size_t size);

  MemoryAccount& account_;
  std::vector<std::byte> bytes_;
  PinnedBuffer pinned_;
  DeviceBuffer device_;
};

}  // namespace sluice::cuda
