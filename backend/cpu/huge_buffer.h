// HugeBuffer: a large zeroed memory region straight from the kernel, on huge pages where the system
// grants them. Pages are committed on first touch, so a big pool costs nothing until it is used.
#pragma once

#include <cstddef>
#include <string_view>

#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice {

class HugeBuffer {
 public:
  // Returns RESOURCE_EXHAUSTED, naming `what` and the size, if the system has not that much memory.
  static absl::StatusOr<HugeBuffer> Allocate(Bytes size, std::string_view what);

  HugeBuffer() = default;
  ~HugeBuffer();
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;

  std::byte* data() const { return data_; }
  Bytes size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  Bytes size_;
};

}  // namespace sluice
