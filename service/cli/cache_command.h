// sluice cache ls|verify|gc: what is in the directory of a disk tier, whether it is whole, and away
// with what no server will use again. sluice cache warm|evict|stats: the cache of a running server.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backend/kv/disk_audit.h"
#include "service/cli/command.h"
#include "service/cli/live_cache.h"

namespace sluice {

struct CacheOptions {
  std::string action;  // ls | verify | gc, or of a server: warm | evict | stats
  std::string directory;
  std::vector<std::string> keep;  // gc: ids
  bool dry_run = true;            // gc
  LiveCacheOptions live;

  bool is_live() const { return action == "warm" || action == "evict" || action == "stats"; }
};

class CacheCommand : public Command {
 public:
  const char* name() const override { return "cache"; }
  const char* summary() const override {
    return "Look after cached KV: ls, verify, gc of a disk tier; warm, evict, stats of a server.";
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
