// sluice cache ls|verify|gc: what is in the directory of a disk tier, whether it is whole, and away
// with what no server will use again.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backend/kv/disk_audit.h"
#include "service/cli/command.h"

namespace sluice {

struct CacheOptions {
  std::string action;  // ls | verify | gc
  std::string directory;
  std::vector<std::string> keep;  // gc: ids
  bool dry_run = true;            // gc
};

class CacheCommand : public Command {
 public:
  const char* name() const override { return "cache"; }
  const char* summary() const override {
    return "Look after the disk tier of KV: sluice cache ls, verify or gc.";
  }
  const char* word_flag() const override { return "action"; }
  void DefineFlags(FlagSet& flags) override;
  absl::Status Validate() const override;

  // ls: one line per model or layout. verify: reads every block; exit code 1 if any is bad. gc:
  // says what it would remove, and removes it with --no-dry-run: all but the models to keep
  // (default: the one used last), and what is broken in those. verify and gc refuse while a server
  // uses the directory.
  int Run(const FlagSet& flags, const CliIo& io) override;

  const CacheOptions& options() const { return options_; }

 private:
  absl::Status List(const CliIo& io) const;
  absl::Status Verify(const CliIo& io) const;
  absl::Status CollectGarbage(const CliIo& io) const;
  absl::Status Repair(const std::string& id, const CliIo& io) const;
  absl::StatusOr<std::vector<std::string>> Ids() const;

  CacheOptions options_;
};

// "3 minutes ago", "2 days ago".
std::string AgeText(absl::Duration age);

}  // namespace sluice
