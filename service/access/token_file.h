// TokenFile: the TokenTable of a file, read again when the file changes, so that tokens are added
// and withdrawn without a restart.
//
// A file that has become unreadable or wrong changes nothing: the last good table stays, and
// `report` hears why. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/access/token_table.h"

namespace sluice {

class TokenFile {
 public:
  using Clock = std::function<absl::Time()>;
  // Called with OK for a new table, or with what is wrong with the file. Must not block.
  using Report = std::function<void(const absl::Status&)>;

  // How often the file is looked at, at most.
  static constexpr absl::Duration kInterval = absl::Seconds(1);

  // Returns NOT_FOUND or INVALID_ARGUMENT naming the file.
  static absl::StatusOr<std::unique_ptr<TokenFile>> Open(std::string path, Clock clock,
                                                         Report report);

  // The present table.
  std::shared_ptr<const TokenTable> table();

 private:
  // What changes when the file does; also when a directory of Kubernetes swaps its link.
  struct Stamp {
    uint64_t inode = 0;
    int64_t size = -1;
    int64_t seconds = 0;
    int64_t nanoseconds = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };

  TokenFile(std::string path, Clock clock, Report report);
  Stamp StampOf() const;
  absl::StatusOr<TokenTable> Read() const;

  const std::string path_;
  const Clock clock_;
  const Report report_;

  std::mutex mu_;
  std::shared_ptr<const TokenTable> table_;  // guarded by mu_
  Stamp stamp_;                              // guarded by mu_
  absl::Time looked_;                        // guarded by mu_
};

}  // namespace sluice
