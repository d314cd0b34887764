// Reads a text file line by line, plain or gzip (told apart by content, not by name). Holds one
// line and a small buffer, never the file.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice {

// Thread-compatible.
class LineFile {
 public:
  // Returns NOT_FOUND if `path` cannot be opened, INVALID_ARGUMENT if it is no file.
  static absl::StatusOr<LineFile> Open(const std::string& path);
  LineFile(LineFile&& other) noexcept;
  LineFile& operator=(LineFile&&) = delete;
  ~LineFile();

  // Puts the next line, without its end, into `line`; false at the end of the file.
  // Returns DATA_LOSS if gzip data is damaged or cut off, INVALID_ARGUMENT if a line is longer than
  // 64 MiB.
  absl::StatusOr<bool> Next(std::string* line);

  int64_t line_number() const { return line_number_; }  // of the last line read, from 1
  std::string Where() const;                            // "trace.jsonl:17"

 private:
  LineFile(std::string path, gzFile file);
  absl::Status Fill();  // the next part of the file into buffer_

  std::string path_;
  gzFile file_;  // owned; null after a move
  std::vector<char> buffer_;
  size_t begin_ = 0;  // what is unread: buffer_[begin_, end_)
  size_t end_ = 0;
  int64_t line_number_ = 0;
};

}  // namespace sluice
