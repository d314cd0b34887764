// DiskLock: one process at a time uses a disk tier's directory. The lock is the kernel's and ends
// with the process, however that ends.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace sluice {

class DiskLock {
 public:
  // Makes the directory if it is not there. Returns FAILED_PRECONDITION naming the process that has
  // the lock; NOT_FOUND, PERMISSION_DENIED or RESOURCE_EXHAUSTED naming the directory.
  static absl::StatusOr<std::unique_ptr<DiskLock>> Acquire(const std::string& directory);
  ~DiskLock();
  DiskLock(const DiskLock&) = delete;
  DiskLock& operator=(const DiskLock&) = delete;

  // The process that has the lock now; 0: nobody. For people: it may change at any time.
  static int Holder(const std::string& directory);

 private:
  explicit DiskLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace sluice
