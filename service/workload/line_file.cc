#include "service/workload/line_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kBufferBytes = size_t{128} << 10U;
constexpr size_t kMaxLineBytes = size_t{64} << 20U;

}  // namespace

absl::StatusOr<LineFile> LineFile::Open(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(
        absl::StrCat(path, ": cannot be read: ", std::strerror(errno), "; check the path"));
  }
  if (S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is a directory; name a file"));
  }
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) {
    return absl::NotFoundError(
        absl::StrCat(path, ": cannot be read: ", std::strerror(errno), "; check its permissions"));
  }
  return LineFile(path, file);
}

LineFile::LineFile(std::string path, gzFile file)
    : path_(std::move(path)), file_(file), buffer_(kBufferBytes) {
  gzbuffer(file_, static_cast<unsigned>(kBufferBytes));
}

LineFile::LineFile(LineFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, nullptr)),
      buffer_(std::move(other.buffer_)),
      begin_(other.begin_),
      end_(other.end_),
      line_number_(other.line_number_) {}

LineFile::~LineFile() {
  if (file_ != nullptr) gzclose(file_);
}

std::string LineFile::Where() const { return absl::StrCat(path_, ":", line_number_); }

absl::Status LineFile::Fill() {
  begin_ = 0;
  end_ = 0;
  const int read = gzread(file_, buffer_.data(), static_cast<unsigned>(buffer_.size()));
  int code = Z_OK;
  const char* message = gzerror(file_, &code);
  // A file that was cut off gives its last bytes first and says so only then.
  if (read < 0 || (code != Z_OK && code != Z_STREAM_END)) {
    return absl::DataLossError(absl::StrCat(path_, ": damaged or incomplete gzip data after line ",
                                            line_number_, " (", message, "); copy it again"));
  }
  end_ = static_cast<size_t>(read);
  return absl::OkStatus();
}

absl::StatusOr<bool> LineFile::Next(std::string* line) {
  line->clear();
  while (true) {
    if (begin_ == end_) {
      SLUICE_RETURN_IF_ERROR(Fill());
      if (begin_ == end_) {  // end of the file; the last line may lack its end
        if (!line->empty()) ++line_number_;
        return !line->empty();
      }
    }
    const char* from = buffer_.data() + begin_;
    const char* to = buffer_.data() + end_;
    const char* newline = std::find(from, to, '\n');
    line->append(from, newline);
    begin_ = static_cast<size_t>(newline - buffer_.data());
    if (newline != to) {
      ++begin_;
      ++line_number_;
      return true;
    }
    if (line->size() > kMaxLineBytes) {
      return absl::InvalidArgumentError(absl::StrCat(path_, ":", line_number_ + 1,
                                                     ": the line is longer than ", kMaxLineBytes,
                                                     " bytes; want one JSON object per line"));
    }
  }
}

}  // namespace sluice
