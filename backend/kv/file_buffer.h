// FileBuffer: memory that direct I/O takes: aligned and padded to whole pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "scheduler/base/check.h"

namespace sluice {

// What O_DIRECT wants of memory, offsets and lengths, on every device we know.
inline constexpr int64_t kFilePage = 4096;

constexpr int64_t RoundUpToPage(int64_t bytes) {
  return (bytes + kFilePage - 1) / kFilePage * kFilePage;
}

inline bool IsPageAligned(const void* memory) {
  return reinterpret_cast<uintptr_t>(memory) % static_cast<uintptr_t>(kFilePage) == 0;
}

struct FileBufferDeleter {
  void operator()(std::byte* p) const { std::free(p); }
};
using FileBuffer = std::unique_ptr<std::byte[], FileBufferDeleter>;

// Uninitialised. Aborts without memory, as `new` would.
inline FileBuffer MakeFileBuffer(int64_t bytes) {
  const auto size = static_cast<size_t>(RoundUpToPage(bytes));
  FileBuffer buffer(static_cast<std::byte*>(std::aligned_alloc(kFilePage, size)));
  SLUICE_CHECK(buffer != nullptr);
  return buffer;
}

}  // namespace sluice
