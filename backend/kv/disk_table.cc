#include "backend/kv/disk_table.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/kv/file_buffer.h"
#include "backend/kv/file_io.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sluice {
namespace {

constexpr uint64_t kMagic = 0x31304B4543495553ULL;  // "SUICEK01" on little-endian machines
constexpr int64_t kChunk = 4 << 20;                 // read at a time

struct TableHeader {
  uint64_t magic = kMagic;
  uint64_t seed = 0;
  int64_t record_bytes = 0;
  int64_t payload = 0;
  int64_t layers = 0;
  int64_t tokens_per_block = 0;
  PathKey key{};
  uint64_t check = 0;
};
static_assert(sizeof(TableHeader) <= static_cast<size_t>(kFilePage));

uint64_t CheckOf(const TableHeader& header) {
  return XXH3_64bits(&header, offsetof(TableHeader, check));
}

TableHeader HeaderFor(const StoreShape& shape, uint64_t seed, int64_t record_bytes) {
  TableHeader header;
  header.seed = seed;
  header.record_bytes = record_bytes;
  header.payload = shape.payload.value();
  header.layers = shape.layers;
  header.tokens_per_block = shape.tokens_per_block.value();
  return header;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DiskTable>> DiskTable::Open(const std::string& path,
                                                           const StoreShape& shape, uint64_t seed,
                                                           TableAccess access) {
  const bool own = access == TableAccess::kOwn;
  const int flags = access == TableAccess::kRead ? O_RDONLY : O_RDWR;
  const int fd = open(path.c_str(), flags | O_CLOEXEC | (own ? O_CREAT : 0), 0644);
  if (fd < 0) return ErrorOfErrno(absl::StrCat(path, ": cannot be opened"), errno);
  auto table = std::unique_ptr<DiskTable>(new DiskTable(path, fd, shape, seed));
  const absl::Status read = table->ReadHeader();
  if (own && absl::IsDataLoss(read)) {
    SLUICE_RETURN_IF_ERROR(table->BeginAnew());
  } else if (!read.ok()) {
    return read;
  }
  if (!own) return table;
  const int64_t most = table->OffsetOf(BlockId(static_cast<int32_t>(shape.slots.value())));
  struct stat info {};
  if (fstat(fd, &info) == 0 && info.st_size > most && ftruncate(fd, most) != 0) {
    return ErrorOfErrno(absl::StrCat(path, ": cannot be cut"), errno);
  }
  return table;
}

DiskTable::~DiskTable() { close(fd_); }

int64_t DiskTable::OffsetOf(BlockId slot) const {
  return kFilePage + static_cast<int64_t>(slot.value()) * format_.bytes();
}

// Returns DATA_LOSS if there is no header, or one of something else.
absl::Status DiskTable::ReadHeader() {
  TableHeader header;
  SLUICE_RETURN_IF_ERROR(
      PReadAll(fd_, reinterpret_cast<std::byte*>(&header), sizeof(header), 0, path_));
  TableHeader want = HeaderFor(shape_, seed_, format_.bytes());
  want.key = header.key;
  want.check = CheckOf(want);
  if (std::memcmp(&header, &want, sizeof(header)) != 0) {
    return absl::DataLossError(absl::StrCat(path_, ": is not a table of these blocks"));
  }
  key_ = header.key;
  return absl::OkStatus();
}

absl::Status DiskTable::BeginAnew() {
  TableHeader header = HeaderFor(shape_, seed_, format_.bytes());
  if (getrandom(header.key.data(), header.key.size(), 0) !=
      static_cast<ssize_t>(header.key.size())) {
    return ErrorOfErrno("no random numbers", errno);
  }
  header.check = CheckOf(header);
  if (ftruncate(fd_, 0) != 0) return ErrorOfErrno(absl::StrCat(path_, ": cannot be cut"), errno);
  std::vector<std::byte> page(static_cast<size_t>(kFilePage));
  std::memcpy(page.data(), &header, sizeof(header));
  SLUICE_RETURN_IF_ERROR(PWriteAll(fd_, page.data(), kFilePage, 0, path_));
  key_ = header.key;
  return absl::OkStatus();
}

absl::Status DiskTable::Write(BlockId slot, const DiskRecord& record) {
  std::vector<std::byte> bytes(static_cast<size_t>(format_.bytes()));
  format_.Encode(slot, record, bytes);
  return PWriteAll(fd_, bytes.data(), format_.bytes(), OffsetOf(slot), path_);
}

absl::Status DiskTable::Clear(BlockId slot) {
  const std::array<std::byte, DiskRecordFormat::kMark> zero{};
  return PWriteAll(fd_, zero.data(), DiskRecordFormat::kMark, OffsetOf(slot), path_);
}

absl::StatusOr<DiskRecord> DiskTable::Read(BlockId slot) const {
  std::vector<std::byte> bytes(static_cast<size_t>(format_.bytes()));
  SLUICE_RETURN_IF_ERROR(PReadAll(fd_, bytes.data(), format_.bytes(), OffsetOf(slot), path_));
  return format_.Decode(slot, bytes);
}

// A record that the file's end cuts short is none.
absl::StatusOr<Blocks> DiskTable::slots() const {
  struct stat info {};
  if (fstat(fd_, &info) != 0) return ErrorOfErrno(absl::StrCat(path_, ": cannot be read"), errno);
  return std::min(Blocks((info.st_size - kFilePage) / format_.bytes()), shape_.slots);
}

absl::Status DiskTable::ForEach(
    absl::FunctionRef<void(BlockId, absl::StatusOr<DiskRecord>)> visit) const {
  const int64_t bytes = format_.bytes();
  SLUICE_ASSIGN_OR_RETURN(const Blocks in_file, this->slots());
  const int64_t slots = in_file.value();
  const int64_t at_a_time = std::max<int64_t>(1, kChunk / bytes);
  std::vector<std::byte> chunk(static_cast<size_t>(at_a_time * bytes));
  for (int64_t slot = 0; slot < slots; slot += at_a_time) {
    const int64_t count = std::min(at_a_time, slots - slot);
    const BlockId first(static_cast<int32_t>(slot));
    SLUICE_RETURN_IF_ERROR(PReadAll(fd_, chunk.data(), count * bytes, OffsetOf(first), path_));
    for (int64_t i = 0; i < count; ++i) {
      const BlockId id(static_cast<int32_t>(slot + i));
      const auto begin = static_cast<size_t>(i * bytes);
      absl::StatusOr<DiskRecord> record =
          format_.Decode(id, std::span(chunk).subspan(begin, static_cast<size_t>(bytes)));
      if (!absl::IsNotFound(record.status())) visit(id, std::move(record));
    }
  }
  return absl::OkStatus();
}

absl::Status DiskTable::Sync() {
  if (fdatasync(fd_) == 0) return absl::OkStatus();
  return ErrorOfErrno(absl::StrCat(path_, ": cannot be synced"), errno);
}

}  // namespace sluice
