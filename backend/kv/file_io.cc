#include "backend/kv/file_io.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

// Enough to keep a device busy with large pieces; they mostly sleep.
constexpr int kThreads = 8;

}  // namespace

absl::StatusOr<std::unique_ptr<FileIo>> FileIo::Create(FileIoMethod method) {
  if (method == FileIoMethod::kThreads) return MakeThreadIo(kThreads);
  absl::StatusOr<std::unique_ptr<FileIo>> uring = MakeUringIo();
  if (uring.ok() || method == FileIoMethod::kUring) return uring;
  return MakeThreadIo(kThreads);
}

void Advance(FileOp& op, int64_t done) {
  op.offset += done;
  auto left = static_cast<size_t>(done);
  while (left > 0 && !op.parts.empty()) {
    iovec& part = op.parts.front();
    const size_t step = std::min(left, part.iov_len);
    part.iov_base = static_cast<std::byte*>(part.iov_base) + step;
    part.iov_len -= step;
    left -= step;
    if (part.iov_len == 0) op.parts.erase(op.parts.begin());
  }
}

absl::Status ErrorOfErrno(const std::string& what, int error) {
  const std::string message = absl::StrCat(what, ": ", std::strerror(error));
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOENT:
      return absl::NotFoundError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::Status PReadAll(int fd, std::byte* data, int64_t bytes, int64_t offset,
                      const std::string& what) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t n = pread(fd, data + done, static_cast<size_t>(bytes - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrorOfErrno(absl::StrCat(what, ": cannot be read"), errno);
    if (n == 0) {
      return absl::DataLossError(
          absl::StrCat(what, ": ends at ", offset + done, ", want ", offset + bytes));
    }
    done += n;
  }
  return absl::OkStatus();
}

absl::Status PWriteAll(int fd, const std::byte* data, int64_t bytes, int64_t offset,
                       const std::string& what) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t n = pwrite(fd, data + done, static_cast<size_t>(bytes - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return ErrorOfErrno(absl::StrCat(what, ": cannot be written"), n == 0 ? EIO : errno);
    }
    done += n;
  }
  return absl::OkStatus();
}

}  // namespace sluice
