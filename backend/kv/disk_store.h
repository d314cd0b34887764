// DiskStore keeps KV blocks in files:
//
//   DIRECTORY/LOCK                     one process at a time
//   DIRECTORY/NAMESPACE/namespace.json what the folder is of (disk_namespace.h)
//                      /records        one record per slot (disk_table.h, disk_record.h)
//                      /segment-000000 the slots' bytes, a fixed place per slot (disk_segments.h)
//
// Order of writes. The slot's old record is emptied, then the bytes are written, then the new
// record. A process that dies in between leaves an empty slot. A machine that loses power may keep
// any of the three: whatever is read is checked against its record, and a record against itself.
//
// Syncing. Nothing is synced while serving: a cache that loses its last seconds to a power cut is
// none the worse, and nothing wrong is ever taken for right. The destructor syncs the records, and
// with O_DIRECT the segments.
//
// Room. Slots are recycled in place, so nothing is compacted. Files grow as slots are first used,
// up to the limit; a full disk fails writes with RESOURCE_EXHAUSTED and reads go on.
//
// Threads: see BlockStore.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "backend/kv/block_store.h"
#include "backend/kv/disk_lock.h"
#include "backend/kv/disk_namespace.h"
#include "backend/kv/disk_segments.h"
#include "backend/kv/disk_table.h"
#include "backend/kv/file_io.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"

namespace sluice {

struct DiskStoreOptions {
  std::string directory;
  DiskNamespace space;  // its shape's slots are not looked at
  // What segments and records may take, in all.
  Bytes limit;
  FileIoMethod io = FileIoMethod::kAuto;
  bool direct = true;       // O_DIRECT where the file system can
  bool sync_at_end = true;  // see the top; off where a power cut may cost everything
};

class DiskStore final : public BlockStore {
 public:
  // Returns INVALID_ARGUMENT if `limit` has no room for a block, else what DiskLock, the table and
  // the file system return.
  static absl::StatusOr<std::unique_ptr<DiskStore>> Open(const DiskStoreOptions& options);
  ~DiskStore() override;

  // What a block takes on the disk, its record included.
  static Bytes SlotCost(const StoreShape& shape);

  const StoreShape& shape() const override { return shape_; }
  std::string description() const override;
  const std::string& directory() const { return directory_; }  // of the namespace

  // Scan() comes first. REQUIRES, for all others: it has returned OK.
  absl::StatusOr<StoreContent> Scan() override;
  void Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) override;
  void Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) override;
  absl::Status Drop(BlockId slot) override;

 private:
  // What is known of a slot in memory; generation 0: it is empty.
  struct Slot {
    int64_t generation = 0;
    Hash128 hash;
    Hash128 path;
  };
  class WriteBatch;
  class ReadBatch;

  DiskStore(const DiskStoreOptions& options, const StoreShape& shape);
  absl::Status Init(const DiskStoreOptions& options);

  absl::Status CheckWrite(const StoreWrite& write) const;
  absl::Status CheckRead(const StoreRead& read) const;
  // Empties the slot before it is written.
  absl::Status Forget(BlockId slot);
  void ForgetInMemory(BlockId slot);
  // Makes the slot's block known. Returns its table's error.
  absl::Status Commit(BlockId slot, const DiskRecord& record);
  Hash128 PathOf(const BlockRecord& record,
                 const absl::flat_hash_map<Hash128, Hash128, Hash128Hasher>& batch);
  absl::StatusOr<BlockRecord> ReadRecord(BlockId slot);

  const StoreShape shape_;
  const int64_t slot_bytes_;
  const bool sync_at_end_;
  std::string directory_;
  std::unique_ptr<DiskLock> lock_;
  std::unique_ptr<DiskTable> table_;
  std::unique_ptr<DiskSegments> segments_;
  std::unique_ptr<FileIo> writer_;
  std::unique_ptr<FileIo> reader_;

  std::mutex mu_;
  std::vector<Slot> slots_;                                       // guarded by mu_
  absl::flat_hash_map<Hash128, BlockId, Hash128Hasher> by_hash_;  // guarded by mu_; never iterated
  int64_t generation_ = 0;                                        // guarded by mu_; the last
  bool scanned_ = false;
};

}  // namespace sluice
