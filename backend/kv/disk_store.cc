#include "backend/kv/disk_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/kv/disk_runs.h"
#include "backend/kv/file_buffer.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

StoreShape WithSlots(StoreShape shape, Bytes limit) {
  const int64_t slots = limit.value() / DiskStore::SlotCost(shape).value();
  shape.slots = Blocks(std::min<int64_t>(slots, INT32_MAX));
  return shape;
}

// Under another name first, so that no half of it is ever there. Nothing is written if it is there
// already: the disk may be full.
absl::Status WriteDescription(const std::string& directory, const std::string& text) {
  const std::string path = absl::StrCat(directory, "/", kNamespaceFile);
  std::ifstream file(path);
  if (std::string(std::istreambuf_iterator<char>(file), {}) == text) return absl::OkStatus();
  const std::string draft = absl::StrCat(path, ".tmp");
  const int fd = open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return ErrorOfErrno(absl::StrCat(draft, ": cannot be opened"), errno);
  const absl::Status written = PWriteAll(fd, reinterpret_cast<const std::byte*>(text.data()),
                                         static_cast<int64_t>(text.size()), 0, draft);
  close(fd);
  SLUICE_RETURN_IF_ERROR(written);
  if (std::rename(draft.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return ErrorOfErrno(absl::StrCat(path, ": cannot be written"), errno);
}

}  // namespace

// ---- Opening and closing -----------------------------------------------------------------------

Bytes DiskStore::SlotCost(const StoreShape& shape) {
  return Bytes(RoundUpToPage(shape.payload.value()) + DiskRecordFormat(shape, 0).bytes());
}

absl::StatusOr<std::unique_ptr<DiskStore>> DiskStore::Open(const DiskStoreOptions& options) {
  const StoreShape shape = WithSlots(options.space.shape, options.limit);
  if (shape.slots < Blocks(1)) {
    return absl::InvalidArgumentError(absl::StrCat("the disk tier may take ", options.limit.value(),
                                                   " bytes, and one block takes ",
                                                   SlotCost(shape).value(), "; give it more"));
  }
  SLUICE_RETURN_IF_ERROR(shape.Validate());
  std::unique_ptr<DiskStore> store(new DiskStore(options, shape));
  SLUICE_RETURN_IF_ERROR(store->Init(options));
  return store;
}

DiskStore::DiskStore(const DiskStoreOptions& options, const StoreShape& shape)
    : shape_(shape),
      slot_bytes_(RoundUpToPage(shape.payload.value())),
      sync_at_end_(options.sync_at_end),
      directory_(absl::StrCat(options.directory, "/", options.space.Id())),
      slots_(shape.slots.size()) {}

absl::Status DiskStore::Init(const DiskStoreOptions& options) {
  SLUICE_ASSIGN_OR_RETURN(lock_, DiskLock::Acquire(options.directory));
  if (mkdir(directory_.c_str(), 0755) != 0 && errno != EEXIST) {
    return ErrorOfErrno(absl::StrCat(directory_, ": cannot be made"), errno);
  }
  SLUICE_RETURN_IF_ERROR(WriteDescription(directory_, options.space.ToJson()));
  SLUICE_ASSIGN_OR_RETURN(
      table_, DiskTable::Open(absl::StrCat(directory_, "/records"), shape_, options.space.Seed()));
  segments_ = std::make_unique<DiskSegments>(directory_, slot_bytes_, shape_.slots, options.direct);
  segments_->RemoveRest();
  SLUICE_ASSIGN_OR_RETURN(writer_, FileIo::Create(options.io));
  SLUICE_ASSIGN_OR_RETURN(reader_, FileIo::Create(options.io));
  return absl::OkStatus();
}

DiskStore::~DiskStore() {
  if (!sync_at_end_) return;
  // Of no consequence if they fail: see the top of the header.
  if (segments_ != nullptr && segments_->direct()) (void)segments_->Sync();
  if (table_ != nullptr) (void)table_->Sync();
}

std::string DiskStore::description() const {
  return absl::StrCat(writer_->name(), segments_->direct() ? ", O_DIRECT" : ", page cache");
}

// ---- What is there -----------------------------------------------------------------------------

void DiskStore::ForgetInMemory(BlockId slot) {
  std::lock_guard<std::mutex> lock(mu_);
  Slot& known = slots_[slot.index()];
  if (known.generation == 0) return;
  const auto it = by_hash_.find(known.hash);
  if (it != by_hash_.end() && it->second == slot) by_hash_.erase(it);
  known = Slot();
}

absl::Status DiskStore::Forget(BlockId slot) {
  bool empty = false;
  {
    std::lock_guard<std::mutex> lock(mu_);
    empty = slots_[slot.index()].generation == 0;
  }
  if (empty) return absl::OkStatus();
  ForgetInMemory(slot);
  return table_->Clear(slot);
}

absl::Status DiskStore::Drop(BlockId slot) {
  SLUICE_CHECK(scanned_ && slot.valid() && slot.value() < shape_.slots.value());
  return Forget(slot);
}

absl::Status DiskStore::Commit(BlockId slot, const DiskRecord& record) {
  SLUICE_RETURN_IF_ERROR(table_->Write(slot, record));
  std::lock_guard<std::mutex> lock(mu_);
  slots_[slot.index()] = {record.generation, record.block.identity.hash, record.path};
  by_hash_[record.block.identity.hash] = slot;
  return absl::OkStatus();
}

Hash128 DiskStore::PathOf(const BlockRecord& record,
                          const absl::flat_hash_map<Hash128, Hash128, Hash128Hasher>& batch) {
  const BlockIdentity& identity = record.identity;
  Hash128 parent;
  if (!identity.first) {
    if (const auto here = batch.find(identity.parent); here != batch.end()) {
      parent = here->second;
    } else {
      std::lock_guard<std::mutex> lock(mu_);
      const auto it = by_hash_.find(identity.parent);
      if (it != by_hash_.end()) parent = slots_[it->second.index()].path;
    }
    if (parent == Hash128()) return parent;
  }
  return PathDigest(table_->key(), parent, identity.salt, record.tokens);
}

absl::StatusOr<BlockRecord> DiskStore::ReadRecord(BlockId slot) {
  SLUICE_ASSIGN_OR_RETURN(DiskRecord record, table_->Read(slot));
  std::lock_guard<std::mutex> lock(mu_);
  if (record.generation != slots_[slot.index()].generation) {
    return absl::DataLossError(absl::StrCat("the record of slot ", slot.value(), " is not the one ",
                                            "that was written last"));
  }
  return std::move(record.block);
}

// ---- Writing -----------------------------------------------------------------------------------

class DiskStore::WriteBatch {
 public:
  WriteBatch(DiskStore& store, std::span<StoreWrite> writes)
      : store_(store), writes_(writes), records_(writes.size()) {}

  void Run(absl::FunctionRef<BlockRecord(size_t)> seal) {
    std::vector<DiskPiece> pieces;
    for (size_t i = 0; i < writes_.size(); ++i) {
      writes_[i].status = Prepare(i, &pieces);
    }
    RunPieces(
        *store_.writer_, std::move(pieces), /*write=*/true, [&] { Seal(seal); },
        [&](size_t i, const absl::Status& status) {
          const BlockId slot = writes_[i].slot;
          writes_[i].status = status.ok() ? store_.Commit(slot, records_[i]) : status;
        });
  }

 private:
  absl::Status Prepare(size_t i, std::vector<DiskPiece>* pieces) {
    StoreWrite& write = writes_[i];
    SLUICE_RETURN_IF_ERROR(store_.CheckWrite(write));
    SLUICE_RETURN_IF_ERROR(store_.Forget(write.slot));
    SLUICE_ASSIGN_OR_RETURN(const DiskSegments::Place place,
                            store_.segments_->Find(write.slot, /*make=*/true));
    // The files are written from, never into.
    auto* data = const_cast<std::byte*>(write.payload.data());
    const auto bytes = static_cast<int64_t>(write.payload.size());
    if (store_.segments_->direct() && (!IsPageAligned(data) || bytes != store_.slot_bytes_)) {
      padded_.push_back(MakeFileBuffer(store_.slot_bytes_));
      std::memcpy(padded_.back().get(), data, write.payload.size());
      std::memset(padded_.back().get() + bytes, 0, static_cast<size_t>(store_.slot_bytes_ - bytes));
      data = padded_.back().get();
      pieces->push_back({i, place.fd, place.offset, data, store_.slot_bytes_});
      return absl::OkStatus();
    }
    pieces->push_back({i, place.fd, place.offset, data, bytes});
    return absl::OkStatus();
  }

  // In order, so that parents have their paths before their children.
  void Seal(absl::FunctionRef<BlockRecord(size_t)> seal) {
    absl::flat_hash_map<Hash128, Hash128, Hash128Hasher> paths;
    for (size_t i = 0; i < writes_.size(); ++i) {
      records_[i].block = seal(i);
      if (!writes_[i].status.ok()) continue;
      records_[i].path = store_.PathOf(records_[i].block, paths);
      paths[records_[i].block.identity.hash] = records_[i].path;
      std::lock_guard<std::mutex> lock(store_.mu_);
      records_[i].generation = ++store_.generation_;
    }
  }

  DiskStore& store_;
  const std::span<StoreWrite> writes_;
  std::vector<DiskRecord> records_;
  std::vector<FileBuffer> padded_;
};

absl::Status DiskStore::CheckWrite(const StoreWrite& write) const {
  SLUICE_CHECK(scanned_ && write.slot.valid() && write.slot.value() < shape_.slots.value());
  if (write.payload.size() == shape_.payload.size()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a block of ", write.payload.size(),
                                          " bytes is to be written, want ",
                                          shape_.payload.value()));
}

void DiskStore::Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) {
  WriteBatch(*this, writes).Run(seal);
}

// ---- Reading -----------------------------------------------------------------------------------

class DiskStore::ReadBatch {
 public:
  ReadBatch(DiskStore& store, std::span<StoreRead> reads)
      : store_(store), reads_(reads), bounced_(reads.size()) {}

  void Run(absl::FunctionRef<void(size_t)> done) {
    std::vector<DiskPiece> pieces;
    std::vector<size_t> failed;
    for (size_t i = 0; i < reads_.size(); ++i) {
      reads_[i].status = Prepare(i, &pieces);
      if (!reads_[i].status.ok()) failed.push_back(i);
    }
    RunPieces(
        *store_.reader_, std::move(pieces), /*write=*/false, [&] { ReadRecords(); },
        [&](size_t i, const absl::Status& status) {
          End(i, status);
          done(i);
        });
    for (const size_t i : failed) done(i);
  }

 private:
  struct Bounce {
    FileBuffer buffer;
    int64_t skip = 0;  // bytes before those asked for
  };

  absl::Status Prepare(size_t i, std::vector<DiskPiece>* pieces) {
    const StoreRead& read = reads_[i];
    SLUICE_RETURN_IF_ERROR(store_.CheckRead(read));
    absl::StatusOr<DiskSegments::Place> place = store_.segments_->Find(read.slot, /*make=*/false);
    if (absl::IsNotFound(place.status())) return absl::DataLossError(place.status().message());
    SLUICE_RETURN_IF_ERROR(place.status());
    const int64_t begin = read.first_layer * store_.shape_.layer_bytes().value();
    const int64_t end = begin + static_cast<int64_t>(read.out.size());
    const int64_t from = begin / kFilePage * kFilePage;
    const int64_t to = RoundUpToPage(end);
    const bool fits = from == begin && to == end && IsPageAligned(read.out.data());
    if (!store_.segments_->direct() || fits) {
      pieces->push_back({i, place->fd, place->offset + begin, read.out.data(), end - begin});
      return absl::OkStatus();
    }
    bounced_[i] = {MakeFileBuffer(to - from), begin - from};
    pieces->push_back({i, place->fd, place->offset + from, bounced_[i].buffer.get(), to - from});
    return absl::OkStatus();
  }

  void ReadRecords() {
    for (StoreRead& read : reads_) {
      if (!read.status.ok()) continue;
      absl::StatusOr<BlockRecord> record = store_.ReadRecord(read.slot);
      if (record.ok()) read.record = *std::move(record);
      if (!record.ok()) read.status = record.status();
    }
  }

  void End(size_t i, const absl::Status& status) {
    StoreRead& read = reads_[i];
    if (read.status.ok()) read.status = status;
    if (!read.status.ok() || bounced_[i].buffer == nullptr) return;
    std::memcpy(read.out.data(), bounced_[i].buffer.get() + bounced_[i].skip, read.out.size());
    bounced_[i].buffer.reset();
  }

  DiskStore& store_;
  const std::span<StoreRead> reads_;
  std::vector<Bounce> bounced_;
};

absl::Status DiskStore::CheckRead(const StoreRead& read) const {
  SLUICE_CHECK(scanned_ && read.slot.valid() && read.slot.value() < shape_.slots.value());
  const int64_t layer = shape_.layer_bytes().value();
  const auto bytes = static_cast<int64_t>(read.out.size());
  SLUICE_CHECK(bytes > 0 && bytes % layer == 0 && read.first_layer >= 0);
  SLUICE_CHECK(read.first_layer * layer + bytes <= shape_.payload.value());
  return absl::OkStatus();
}

void DiskStore::Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) {
  ReadBatch(*this, reads).Run(done);
}

}  // namespace sluice
