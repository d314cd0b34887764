// DiskProbe: how fast a directory's file system writes and reads large pieces, and how long one
// small read takes.
//
// The file loses its name as soon as it is open, so that nothing stays behind, whatever happens to
// the process. Its pages bypass the page cache (O_DIRECT) where the file system can do that;
// elsewhere every piece is synced and dropped from the cache, and `direct` is false: such rates may
// still be the cache's.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "backend/probe_timer.h"
#include "scheduler/base/units.h"

namespace sluice {

struct DiskRates {
  Bytes piece;       // of `read` and `write`
  RunTimes write;    // of one piece, until the device has taken it
  RunTimes read;     // of one piece
  RunTimes latency;  // of reading kSmallRead at random
  bool direct = false;
};

inline constexpr Bytes kSmallRead{4096};

// Writes and reads `size` bytes (at least one piece of 4 MiB) in `directory`.
// Returns NOT_FOUND or PERMISSION_DENIED naming the directory, RESOURCE_EXHAUSTED if it is full,
// CANCELLED.
absl::StatusOr<DiskRates> ProbeDisk(const std::string& directory, Bytes size,
                                    const ProbeControl& control);

}  // namespace sluice
