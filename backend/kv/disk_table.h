// DiskTable: the records of all slots of a namespace, in one file: a page that says what they are,
// then one record per slot. Reading it from front to back is all that a start needs.
//
// Thread-safe, as far as no slot is written while it is written or read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backend/kv/disk_record.h"
#include "scheduler/base/units.h"

namespace sluice {

// What may happen to a file that is opened.
enum class TableAccess : uint8_t {
  kOwn,   // made if need be; begun anew if it is not of this shape and seed; cut to the shape's
          // slots
  kKeep,  // its records may be emptied
  kRead,  // nothing
};

class DiskTable {
 public:
  // Returns DATA_LOSS if the file is not of this shape and seed (not with kOwn), NOT_FOUND,
  // PERMISSION_DENIED or UNAVAILABLE.
  static absl::StatusOr<std::unique_ptr<DiskTable>> Open(const std::string& path,
                                                         const StoreShape& shape, uint64_t seed,
                                                         TableAccess access = TableAccess::kOwn);
  ~DiskTable();
  DiskTable(const DiskTable&) = delete;
  DiskTable& operator=(const DiskTable&) = delete;

  const PathKey& key() const { return key_; }
  int64_t record_bytes() const { return format_.bytes(); }

  // How many slots the file is long enough for; at most the shape's.
  absl::StatusOr<Blocks> slots() const;

  absl::Status Write(BlockId slot, const DiskRecord& record);
  // Makes the slot an empty one.
  absl::Status Clear(BlockId slot);
  // Statuses as DiskRecordFormat::Decode(), and UNAVAILABLE.
  absl::StatusOr<DiskRecord> Read(BlockId slot) const;

  // Calls `visit` for every slot that is not empty, in order of slots.
  absl::Status ForEach(absl::FunctionRef<void(BlockId, absl::StatusOr<DiskRecord>)> visit) const;

  // Puts everything on the device.
  absl::Status Sync();

 private:
  DiskTable(std::string path, int fd, const StoreShape& shape, uint64_t seed)
      : path_(std::move(path)), fd_(fd), shape_(shape), seed_(seed), format_(shape, seed) {}

  absl::Status ReadHeader();
  absl::Status BeginAnew();
  int64_t OffsetOf(BlockId slot) const;

  const std::string path_;
  const int fd_;
  const StoreShape shape_;
  const uint64_t seed_;
  const DiskRecordFormat format_;
  PathKey key_{};
};

}  // namespace sluice
