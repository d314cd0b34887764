// What `sluice cache` does with a disk tier's directory while no server uses it: what is there,
// whether it is whole, and what may go. Nothing here changes a file, except where it says so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/disk_namespace.h"
#include "scheduler/base/units.h"

namespace sluice {

// A namespace at a glance: its records are read, its blocks are not.
struct NamespaceSummary {
  std::string id;
  absl::Status status;  // not OK: what its description or its table lacks; the rest is then empty
  DiskNamespace space;
  int64_t blocks = 0;
  int64_t broken = 0;    // records
  Bytes size;            // what it takes on the disk
  absl::Time last_used;  // last write to its records
};
NamespaceSummary Summarize(const std::string& directory, const std::string& id);

// A namespace with every block read.
struct NamespaceAudit {
  int64_t good = 0;
  std::vector<BlockId> bad;      // slots whose bytes are not those that were written, or unreadable
  std::vector<BlockId> broken;   // slots whose record is torn or changed
  std::vector<std::string> why;  // one line for each of the first few that are bad
};
// `progress(done, total)`: bytes of blocks.
absl::StatusOr<NamespaceAudit> Audit(const std::string& directory, const std::string& id,
                                     absl::FunctionRef<void(int64_t, int64_t)> progress);

// Empties these slots. REQUIRES: DiskLock held.
absl::Status EmptySlots(const std::string& directory, const std::string& id,
                        const std::vector<BlockId>& slots);

// Removes the namespace with all its files. REQUIRES: DiskLock held.
absl::Status RemoveNamespace(const std::string& directory, const std::string& id);

}  // namespace sluice
