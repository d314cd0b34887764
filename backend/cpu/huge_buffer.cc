#include "backend/cpu/huge_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice {

absl::StatusOr<HugeBuffer> HugeBuffer::Allocate(Bytes size, std::string_view what) {
  HugeBuffer buffer;
  if (size == Bytes(0)) return buffer;
  const int64_t physical = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  void* data = MAP_FAILED;
  if (size.value() <= physical) {
    data = mmap(nullptr, size.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", size.value() >> 20, " MiB for ", std::string(what),
                     ": the machine has ", physical >> 20, " MiB in all; ask for less"));
  }
  (void)madvise(data, size.size(), MADV_HUGEPAGE);  // a hint: small pages work too
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.size_ = size;
  return buffer;
}

HugeBuffer::~HugeBuffer() {
  if (data_ != nullptr) munmap(data_, size_.size());
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, Bytes(0))) {}

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace sluice
