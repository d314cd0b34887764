#include "backend/kv/disk_segments.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "backend/kv/file_buffer.h"
#include "backend/kv/file_io.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kSegmentBytes = int64_t{1} << 30;
// Room taken at a time: growing by single blocks would scatter a file over the disk.
constexpr int64_t kGrowth = int64_t{64} << 20;

}  // namespace

DiskSegments::DiskSegments(std::string directory, int64_t slot_bytes, Blocks slots, bool direct)
    : directory_(std::move(directory)),
      slot_bytes_(slot_bytes),
      slots_per_segment_(std::max<int64_t>(1, kSegmentBytes / slot_bytes)),
      slots_(slots.value()),
      direct_(direct && TryDirect()) {
  const int64_t count = (slots_ + slots_per_segment_ - 1) / slots_per_segment_;
  segments_.resize(static_cast<size_t>(count));
}

void DiskSegments::RemoveRest() {
  auto next = static_cast<int64_t>(segments_.size());
  while (unlink(PathOf(next).c_str()) == 0) ++next;
}

DiskSegments::~DiskSegments() {
  for (const Segment& segment : segments_) {
    if (segment.fd >= 0) close(segment.fd);
  }
}

// Some file systems refuse the flag, some take it and refuse the transfers.
bool DiskSegments::TryDirect() const {
  const std::string path = absl::StrCat(directory_, "/direct-io-trial");
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  unlink(path.c_str());
  const FileBuffer page = MakeFileBuffer(kFilePage);
  std::memset(page.get(), 0, static_cast<size_t>(kFilePage));
  const auto size = static_cast<size_t>(kFilePage);
  const bool refused = pwrite(fd, page.get(), size, 0) < 0 && errno == EINVAL;
  close(fd);
  return !refused;
}

std::string DiskSegments::PathOf(int64_t segment) const {
  return absl::StrFormat("%s/segment-%06d", directory_, segment);
}

absl::Status DiskSegments::Open(int64_t index, bool make) {
  Segment& segment = segments_[static_cast<size_t>(index)];
  if (segment.fd >= 0) return absl::OkStatus();
  const std::string path = PathOf(index);
  const int flags = O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0) | (direct_ ? O_DIRECT : 0);
  const int fd = open(path.c_str(), flags, 0644);
  if (fd < 0) return ErrorOfErrno(absl::StrCat(path, ": cannot be opened"), errno);
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    const int error = errno;
    close(fd);
    return ErrorOfErrno(absl::StrCat(path, ": cannot be read"), error);
  }
  segment = {fd, info.st_size};
  return absl::OkStatus();
}

absl::Status DiskSegments::Grow(int64_t index, int64_t end) {
  Segment& segment = segments_[static_cast<size_t>(index)];
  if (end <= segment.size) return absl::OkStatus();
  const int64_t whole = std::min(slots_per_segment_, slots_ - index * slots_per_segment_);
  const int64_t generous = std::min(segment.size + kGrowth, whole * slot_bytes_);
  int error = 0;
  for (const int64_t size : {std::max(end, generous), end}) {
    error = fallocate(segment.fd, 0, segment.size, size - segment.size) == 0 ? 0 : errno;
    if (error == EOPNOTSUPP) error = ftruncate(segment.fd, size) == 0 ? 0 : errno;
    if (error == 0) {
      segment.size = size;
      return absl::OkStatus();
    }
  }
  return ErrorOfErrno(absl::StrCat(PathOf(index), ": cannot grow to ", end, " bytes"), error);
}

absl::StatusOr<DiskSegments::Place> DiskSegments::Find(BlockId slot, bool make) {
  const int64_t index = slot.value() / slots_per_segment_;
  Place place;
  place.segment = index;
  place.offset = slot.value() % slots_per_segment_ * slot_bytes_;
  std::lock_guard<std::mutex> lock(mu_);
  SLUICE_RETURN_IF_ERROR(Open(index, make));
  if (make) SLUICE_RETURN_IF_ERROR(Grow(index, place.offset + slot_bytes_));
  place.fd = segments_[static_cast<size_t>(index)].fd;
  return place;
}

absl::Status DiskSegments::Sync() {
  std::lock_guard<std::mutex> lock(mu_);
  for (const Segment& segment : segments_) {
    if (segment.fd < 0 || fdatasync(segment.fd) == 0) continue;
    return ErrorOfErrno(absl::StrCat(directory_, ": cannot be synced"), errno);
  }
  return absl::OkStatus();
}

}  // namespace sluice
