#include "backend/disk_probe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr Bytes kPiece = MiB(4);
constexpr size_t kAlignment = 4096;  // what O_DIRECT wants of memory, offset and length

absl::Status ErrorOf(const std::string& directory, const char* what, int error) {
  const std::string message =
      absl::StrCat("disk probe: ", directory, ": ", what, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(absl::StrCat(message, "; name a directory that exists"));
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(absl::StrCat(message, "; name a writable directory"));
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; name one with more room"));
    default:
      return absl::UnavailableError(message);
  }
}

// An open file without a name.
class ScratchFile {
 public:
  explicit ScratchFile(std::string directory) : directory_(std::move(directory)) {}
  ~ScratchFile() {
    if (fd_ >= 0) close(fd_);
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  absl::Status Open() {
    std::string path = absl::StrCat(directory_, "/sluice-probe-XXXXXX");
    fd_ = mkostemp(path.data(), O_CLOEXEC);
    if (fd_ < 0) return ErrorOf(directory_, "cannot create a file", errno);
    unlink(path.c_str());
    const int flags = fcntl(fd_, F_GETFL);
    direct_ = flags >= 0 && fcntl(fd_, F_SETFL, flags | O_DIRECT) == 0;
    return absl::OkStatus();
  }
  bool direct() const { return direct_; }

  absl::Status Write(const std::byte* data, int64_t offset, Bytes size) {
    return All(size, "cannot write", [&](size_t done, size_t left) {
      return pwrite(fd_, data + done, left, At(offset, done));
    });
  }
  absl::Status Read(std::byte* data, int64_t offset, Bytes size) {
    return All(size, "cannot read", [&](size_t done, size_t left) {
      return pread(fd_, data + done, left, At(offset, done));
    });
  }
  // Puts everything on the device and out of the page cache.
  absl::Status Settle() {
    if (fdatasync(fd_) != 0) return ErrorOf(directory_, "cannot write", errno);
    posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
    return absl::OkStatus();
  }

 private:
  static off_t At(int64_t offset, size_t done) { return offset + static_cast<off_t>(done); }

  template <class Step>
  absl::Status All(Bytes size, const char* what, Step step) {
    for (size_t done = 0; done < size.size();) {
      const ssize_t n = step(done, size.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EINVAL && direct_ && DropDirect()) continue;
      if (n <= 0) return ErrorOf(directory_, what, n == 0 ? EIO : errno);
      done += static_cast<size_t>(n);
    }
    return absl::OkStatus();
  }

  // Some file systems take the flag and then refuse the transfers.
  bool DropDirect() {
    direct_ = false;
    const int flags = fcntl(fd_, F_GETFL);
    return flags >= 0 && fcntl(fd_, F_SETFL, flags & ~O_DIRECT) == 0;
  }

  const std::string directory_;
  int fd_ = -1;
  bool direct_ = false;
};

struct FreeDeleter {
  void operator()(std::byte* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeDeleter>;

// Bytes that no device can compress.
AlignedBytes RandomPiece() {
  AlignedBytes piece(static_cast<std::byte*>(std::aligned_alloc(kAlignment, kPiece.size())));
  if (piece == nullptr) return piece;
  std::mt19937_64 random(1);
  for (size_t i = 0; i < kPiece.size(); i += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(piece.get() + i, &word, sizeof(word));
  }
  return piece;
}

// The probe's three parts share its time; the small reads need least.
ProbeControl PartOf(const ProbeControl& control) {
  ProbeControl result = control;
  result.time = control.time * 0.4;
  return result;
}

}  // namespace

absl::StatusOr<DiskRates> ProbeDisk(const std::string& directory, Bytes size,
                                    const ProbeControl& control) {
  ScratchFile file(directory);
  SLUICE_RETURN_IF_ERROR(file.Open());
  const AlignedBytes piece = RandomPiece();
  if (piece == nullptr) return absl::ResourceExhaustedError("disk probe: no memory for 4 MiB");
  const int64_t pieces = std::max<int64_t>(1, size.value() / kPiece.value());
  DiskRates rates;
  rates.piece = kPiece;

  int64_t written = 0;
  const auto write = [&] {
    SLUICE_RETURN_IF_ERROR(file.Write(piece.get(), written++ % pieces * kPiece.value(), kPiece));
    return file.direct() ? absl::OkStatus() : file.Settle();
  };
  SLUICE_ASSIGN_OR_RETURN(rates.write, TimeRepeatedly(PartOf(control), write));
  SLUICE_RETURN_IF_ERROR(file.Settle());

  const int64_t filled = std::min(written, pieces);
  int64_t read = 0;
  const auto read_piece = [&] {
    if (!file.direct()) SLUICE_RETURN_IF_ERROR(file.Settle());
    return file.Read(piece.get(), read++ % filled * kPiece.value(), kPiece);
  };
  SLUICE_ASSIGN_OR_RETURN(rates.read, TimeRepeatedly(PartOf(control), read_piece));

  std::mt19937_64 random(2);
  const auto slots = static_cast<uint64_t>(filled * kPiece.value() / kSmallRead.value());
  const auto read_small = [&] {
    return file.Read(piece.get(), static_cast<int64_t>(random() % slots) * kSmallRead.value(),
                     kSmallRead);
  };
  SLUICE_ASSIGN_OR_RETURN(rates.latency, TimeRepeatedly(PartOf(control), read_small));
  rates.direct = file.direct();
  return rates;
}

}  // namespace sluice
