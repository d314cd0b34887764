#include "backend/kv/disk_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "backend/kv/file_io.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

std::string LockPath(const std::string& directory) { return absl::StrCat(directory, "/LOCK"); }

// The number the holder has left in the file; 0 if there is none.
int ReadPid(int fd) {
  std::array<char, 24> text{};
  const ssize_t n = pread(fd, text.data(), text.size(), 0);
  int pid = 0;
  if (n <= 0 || !absl::SimpleAtoi(absl::string_view(text.data(), static_cast<size_t>(n)), &pid)) {
    return 0;
  }
  return pid;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DiskLock>> DiskLock::Acquire(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error && !std::filesystem::is_directory(directory)) {
    return ErrorOfErrno(absl::StrCat(directory, ": cannot be made"), error.value());
  }
  const std::string path = LockPath(directory);
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return ErrorOfErrno(absl::StrCat(path, ": cannot be opened"), errno);
  auto lock = std::unique_ptr<DiskLock>(new DiskLock(fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrorOfErrno(absl::StrCat(path, ": cannot be locked"), errno);
    const int pid = ReadPid(fd);
    return absl::FailedPreconditionError(absl::StrCat(
        directory, " is in use by process ", pid == 0 ? "(unknown)" : absl::StrCat(pid),
        "; one process at a time may use it: stop that one or name another directory"));
  }
  // What is in the file is for people; a full disk does not matter.
  const std::string text = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) == 0) {
    (void)PWriteAll(fd, reinterpret_cast<const std::byte*>(text.data()),
                    static_cast<int64_t>(text.size()), 0, path);
  }
  return lock;
}

DiskLock::~DiskLock() { close(fd_); }

int DiskLock::Holder(const std::string& directory) {
  const int fd = open(LockPath(directory).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const bool free = flock(fd, LOCK_SH | LOCK_NB) == 0;
  const int pid = free ? 0 : ReadPid(fd);
  close(fd);
  return pid;
}

}  // namespace sluice
