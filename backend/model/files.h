// Files of a model directory: small ones read whole, large ones mapped.
//
// Only regular files are opened (a FIFO would block, a device never end). Every error names the
// path.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice {

// Returns the whole of `path`. NOT_FOUND if it does not exist, INVALID_ARGUMENT if it is not a
// regular file or larger than `limit`, INTERNAL if reading fails.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, Bytes limit);

// True if `path` exists (of whatever kind).
bool FileExists(const std::string& path);

// What else of a model `dir` holds, for the message "no safetensors here": ": it has GGUF weights
// (x.gguf), which ...", or "" if there is nothing to say.
std::string DescribeOtherWeights(const std::string& dir);

// A file mapped read-only for as long as this object lives. Shrinking the file meanwhile is
// undefined behaviour (the kernel raises SIGBUS), as with every memory map.
//
// Thread-compatible.
class MappedFile {
 public:
  // Errors as for ReadSmallFile. An empty file maps to an empty span.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  MappedFile(std::string path, std::span<const std::byte> bytes);

  const std::string path_;
  const std::span<const std::byte> bytes_;
};

}  // namespace sluice
