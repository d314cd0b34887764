// DiskSegments: the files that hold the bytes of a namespace's slots, about 1 GiB each. A slot has
// a fixed place: blocks that go leave room for others, so nothing is ever compacted. Files grow as
// slots are used for the first time.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice {

class DiskSegments {
 public:
  struct Place {
    int fd = -1;
    int64_t offset = 0;
    int64_t segment = 0;
  };

  // `slot_bytes`: a multiple of kFilePage. `direct`: asks for O_DIRECT; direct() says whether the
  // file system can do it.
  DiskSegments(std::string directory, int64_t slot_bytes, Blocks slots, bool direct);
  ~DiskSegments();
  DiskSegments(const DiskSegments&) = delete;
  DiskSegments& operator=(const DiskSegments&) = delete;

  bool direct() const { return direct_; }
  int64_t slot_bytes() const { return slot_bytes_; }

  // Where a slot is. Opens its file, which must be there unless `make`: then it is made, and has
  // room for the slot's bytes. Returns RESOURCE_EXHAUSTED, PERMISSION_DENIED, NOT_FOUND or
  // UNAVAILABLE.
  absl::StatusOr<Place> Find(BlockId slot, bool make);

  // Removes the files of slots there are no more.
  void RemoveRest();

  // Puts everything on the device.
  absl::Status Sync();

 private:
  struct Segment {
    int fd = -1;
    int64_t size = 0;
  };

  std::string PathOf(int64_t segment) const;
  absl::Status Open(int64_t index, bool make);
  absl::Status Grow(int64_t index, int64_t end);
  bool TryDirect() const;

  const std::string directory_;
  const int64_t slot_bytes_;
  const int64_t slots_per_segment_;
  const int64_t slots_;
  bool direct_;

  std::mutex mu_;
  std::vector<Segment> segments_;  // guarded by mu_
};

}  // namespace sluice
