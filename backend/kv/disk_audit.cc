#include "backend/kv/disk_audit.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/kv/disk_runs.h"
#include "backend/kv/disk_segments.h"
#include "backend/kv/disk_table.h"
#include "backend/kv/file_buffer.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kReadAtATime = 8 << 20;
constexpr size_t kLines = 10;

struct Opened {
  DiskNamespace space;
  std::unique_ptr<DiskTable> table;
};

absl::StatusOr<Opened> OpenTable(const std::string& directory, const std::string& id,
                                 TableAccess access) {
  Opened opened;
  SLUICE_ASSIGN_OR_RETURN(opened.space, ReadNamespace(directory, id));
  if (opened.space.Id() != id) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, "/", id, "/", kNamespaceFile,
                     ": describes another namespace, or another version"));
  }
  opened.space.shape.slots = Blocks(INT32_MAX);  // whatever is there
  SLUICE_RETURN_IF_ERROR(opened.space.shape.Validate());
  SLUICE_ASSIGN_OR_RETURN(opened.table,
                          DiskTable::Open(absl::StrCat(directory, "/", id, "/records"),
                                          opened.space.shape, opened.space.Seed(), access));
  return opened;
}

// Reads blocks some at a time and checks them.
class Reader {
 public:
  Reader(const DiskNamespace& space, DiskSegments& segments, FileIo& io, NamespaceAudit* audit)
      : space_(space), segments_(segments), io_(io), audit_(audit) {
    const int64_t block = space.shape.payload.value();
    most_ = static_cast<size_t>(std::max<int64_t>(1, kReadAtATime / block));
    buffer_ = MakeFileBuffer(static_cast<int64_t>(most_) * block);
  }

  void Add(BlockId slot, BlockRecord record) {
    slots_.push_back(slot);
    records_.push_back(std::move(record));
    if (slots_.size() == most_) Flush();
  }

  void Flush() {
    const int64_t block = space_.shape.payload.value();
    std::vector<DiskPiece> pieces;
    for (size_t i = 0; i < slots_.size(); ++i) {
      const absl::StatusOr<DiskSegments::Place> place = segments_.Find(slots_[i], /*make=*/false);
      if (!place.ok()) {
        Note(i, place.status());
        continue;
      }
      std::byte* data = buffer_.get() + static_cast<int64_t>(i) * block;
      pieces.push_back({i, place->fd, place->offset, data, block});
    }
    RunPieces(
        io_, std::move(pieces), /*write=*/false, [] {},
        [&](size_t i, const absl::Status& read) { Note(i, read.ok() ? Check(i) : read); });
    slots_.clear();
    records_.clear();
  }

 private:
  absl::Status Check(size_t i) const {
    const auto block = space_.shape.payload.size();
    return CheckPayload(records_[i], records_[i].identity, {buffer_.get() + i * block, block},
                        space_.shape.layer_bytes(), 0);
  }

  void Note(size_t i, const absl::Status& status) {
    if (status.ok()) {
      ++audit_->good;
      return;
    }
    audit_->bad.push_back(slots_[i]);
    if (audit_->why.size() == kLines) return;
    audit_->why.push_back(absl::StrCat("slot ", slots_[i].value(), ": ", status.message()));
  }

  const DiskNamespace& space_;
  DiskSegments& segments_;
  FileIo& io_;
  NamespaceAudit* const audit_;
  size_t most_ = 0;
  FileBuffer buffer_;
  std::vector<BlockId> slots_;
  std::vector<BlockRecord> records_;
};

Bytes SizeOnDisk(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    struct stat info {};
    if (stat(it->path().c_str(), &info) == 0) bytes += int64_t{512} * info.st_blocks;
  }
  return Bytes(bytes);
}

}  // namespace

NamespaceSummary Summarize(const std::string& directory, const std::string& id) {
  NamespaceSummary summary;
  summary.id = id;
  const std::string folder = absl::StrCat(directory, "/", id);
  summary.size = SizeOnDisk(folder);
  struct stat info {};
  if (stat(absl::StrCat(folder, "/records").c_str(), &info) == 0) {
    summary.last_used = absl::FromTimeT(info.st_mtime);
  }
  absl::StatusOr<Opened> opened = OpenTable(directory, id, TableAccess::kRead);
  summary.status = opened.status();
  if (!opened.ok()) return summary;
  summary.space = opened->space;
  summary.status = opened->table->ForEach([&](BlockId, const absl::StatusOr<DiskRecord>& record) {
    ++(record.ok() ? summary.blocks : summary.broken);
  });
  return summary;
}

absl::StatusOr<NamespaceAudit> Audit(const std::string& directory, const std::string& id,
                                     absl::FunctionRef<void(int64_t, int64_t)> progress) {
  SLUICE_ASSIGN_OR_RETURN(const Opened opened, OpenTable(directory, id, TableAccess::kRead));
  const int64_t block = opened.space.shape.payload.value();
  int64_t total = 0;
  SLUICE_RETURN_IF_ERROR(
      opened.table->ForEach([&](BlockId, const absl::StatusOr<DiskRecord>&) { total += block; }));
  SLUICE_ASSIGN_OR_RETURN(const Blocks slots, opened.table->slots());
  DiskSegments segments(absl::StrCat(directory, "/", id), RoundUpToPage(block), slots,
                        /*direct=*/false);
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<FileIo> io, FileIo::Create(FileIoMethod::kAuto));
  NamespaceAudit audit;
  Reader reader(opened.space, segments, *io, &audit);
  int64_t done = 0;
  SLUICE_RETURN_IF_ERROR(
      opened.table->ForEach([&](BlockId slot, absl::StatusOr<DiskRecord> record) {
        if (record.ok()) {
          reader.Add(slot, std::move(record->block));
        } else {
          audit.broken.push_back(slot);
        }
        progress(done += block, total);
      }));
  reader.Flush();
  return audit;
}

absl::Status EmptySlots(const std::string& directory, const std::string& id,
                        const std::vector<BlockId>& slots) {
  SLUICE_ASSIGN_OR_RETURN(const Opened opened, OpenTable(directory, id, TableAccess::kKeep));
  for (const BlockId slot : slots) SLUICE_RETURN_IF_ERROR(opened.table->Clear(slot));
  return absl::OkStatus();
}

absl::Status RemoveNamespace(const std::string& directory, const std::string& id) {
  const std::filesystem::path folder = std::filesystem::path(directory) / id;
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  if (!error) return absl::OkStatus();
  return ErrorOfErrno(absl::StrCat(folder.string(), ": cannot be removed"), error.value());
}

}  // namespace sluice
