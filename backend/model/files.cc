#include "backend/model/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

absl::Status ErrnoStatus(const std::string& path, const char* what) {
  const int error = errno;
  const std::string message =
      absl::StrCat(path, ": ", what, ": ", std::generic_category().message(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    default:
      return absl::InternalError(message);
  }
}

// An open file descriptor of a regular file.
class RegularFile {
 public:
  static absl::StatusOr<RegularFile> Open(const std::string& path) {
    // O_NONBLOCK: opening a FIFO without a writer must not hang.
    RegularFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.fd_ < 0) return ErrnoStatus(path, "cannot open");
    struct stat info;
    if (::fstat(file.fd_, &info) != 0) return ErrnoStatus(path, "cannot stat");
    if (!S_ISREG(info.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": is not a regular file"));
    }
    file.size_ = static_cast<int64_t>(info.st_size);
    return file;
  }
  RegularFile(RegularFile&& o) noexcept : fd_(std::exchange(o.fd_, -1)), size_(o.size_) {}
  ~RegularFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  int fd() const { return fd_; }
  int64_t size() const { return size_; }

 private:
  explicit RegularFile(int fd) : fd_(fd) {}

  int fd_;
  int64_t size_ = 0;
};

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, Bytes limit) {
  SLUICE_ASSIGN_OR_RETURN(const RegularFile file, RegularFile::Open(path));
  if (file.size() > limit.value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has ", file.size(), " bytes, limit ", limit.value()));
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(file.fd(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(path, "cannot read");
    if (n == 0) break;  // became shorter; the parser will complain
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

bool FileExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

std::string DescribeOtherWeights(const std::string& dir) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (absl::EndsWith(name, ".gguf")) {
      return absl::StrCat(": it has GGUF weights (", name,
                          "), which are not supported; use the model's safetensors version");
    }
    if (absl::EndsWith(name, ".bin") || absl::EndsWith(name, ".pth") ||
        absl::EndsWith(name, ".pt")) {
      return absl::StrCat(": it has PyTorch weights (", name,
                          "), which are not supported; convert them to safetensors");
    }
  }
  return "";
}

MappedFile::MappedFile(std::string path, std::span<const std::byte> bytes)
    : path_(std::move(path)), bytes_(bytes) {}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  SLUICE_ASSIGN_OR_RETURN(const RegularFile file, RegularFile::Open(path));
  std::span<const std::byte> bytes;
  if (file.size() > 0) {
    const auto size = static_cast<size_t>(file.size());
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd(), 0);
    if (address == MAP_FAILED) return ErrnoStatus(path, "cannot map");
    bytes = {static_cast<const std::byte*>(address), size};
  }
  return std::unique_ptr<MappedFile>(new MappedFile(path, bytes));
}

}  // namespace sluice
