// Writes request traces in the block form that trace_reader.h describes.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"

namespace sluice {

struct TraceLine {
  absl::Duration arrival;  // since the start; written in whole milliseconds, rounded down
  Tokens input;
  Tokens output;
  int32_t tenant = 0;
  int32_t priority = 0;
  std::vector<uint64_t> block_hashes;  // one per block, the last may be partial
};

// Thread-safe.
class TraceWriter {
 public:
  // Creates or truncates `path`; a name that ends with .gz is compressed. `block_tokens` goes into
  // every line. Returns UNAVAILABLE if it cannot be written, INVALID_ARGUMENT if block_tokens < 1.
  static absl::StatusOr<std::unique_ptr<TraceWriter>> Create(const std::string& path,
                                                             Tokens block_tokens);
  ~TraceWriter();  // closes; errors are lost
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  // Adds a line. Readers want them sorted by arrival. Returns UNAVAILABLE if the disk is full or
  // the writer closed; all later calls then return the same.
  absl::Status Append(const TraceLine& line);

  // Writes out everything and closes. Returns the first error of any write.
  absl::Status Close();

 private:
  TraceWriter(std::string path, Tokens block_tokens, gzFile file);
  absl::Status FailLocked(const char* what);

  const std::string path_;
  const Tokens block_tokens_;

  std::mutex mu_;
  gzFile file_;          // guarded by mu_; null: closed
  absl::Status status_;  // guarded by mu_; the first error
};

}  // namespace sluice
