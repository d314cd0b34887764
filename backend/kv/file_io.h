// FileIo moves many pieces between files and memory at once: through io_uring where the kernel lets
// us, else with pread and pwrite on a few threads.
//
// Thread-compatible: one thread at a time.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice {

// One contiguous range of a file, from or to pieces of memory.
struct FileOp {
  int fd = -1;
  bool write = false;
  int64_t offset = 0;
  std::vector<iovec> parts;  // at most kMostParts

  static constexpr size_t kMostParts = 64;
};

enum class FileIoMethod : uint8_t { kAuto, kUring, kThreads };

class FileIo {
 public:
  // Operations under way at a time. More than a few keep a device busy; the rest waits here.
  static constexpr int kDepth = 32;

  // kAuto: io_uring, or threads if it is not allowed. Returns UNAVAILABLE for kUring if it is not.
  static absl::StatusOr<std::unique_ptr<FileIo>> Create(FileIoMethod method);
  virtual ~FileIo() = default;

  virtual const char* name() const = 0;  // "io_uring"

  // Runs all of `ops` and returns when they have ended. `done(i, status)` is called once for each,
  // on this thread, in any order, while others are under way. `meanwhile` is called once, after the
  // first of them have been started. Statuses: see ErrorOfErrno(); DATA_LOSS where a file ends
  // before what is to be read.
  virtual void Run(std::span<FileOp> ops, absl::FunctionRef<void()> meanwhile,
                   absl::FunctionRef<void(size_t, const absl::Status&)> done) = 0;
};

// Moves `done` bytes off the front of what is left to do.
void Advance(FileOp& op, int64_t done);

// RESOURCE_EXHAUSTED (no space, quota, file limit), PERMISSION_DENIED (read-only), UNAVAILABLE.
absl::Status ErrorOfErrno(const std::string& what, int error);

// Both end after `bytes`, or return the error. `what`: for messages.
absl::Status PReadAll(int fd, std::byte* data, int64_t bytes, int64_t offset,
                      const std::string& what);
absl::Status PWriteAll(int fd, const std::byte* data, int64_t bytes, int64_t offset,
                       const std::string& what);

// For Create().
absl::StatusOr<std::unique_ptr<FileIo>> MakeUringIo();
std::unique_ptr<FileIo> MakeThreadIo(int threads);

}  // namespace sluice
