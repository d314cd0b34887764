// sluice cache warm|evict|stats: asks a running server to bring KV closer, to drop it, or for
// numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "service/cli/command.h"
#include "service/cli/request_flags.h"
#include "service/config/flag_set.h"
#include "sluice/v1/control.pb.h"

namespace sluice {

struct LiveCacheOptions {
  ConnectionFlags connection;
  // warm: exactly one of these. evict: exactly one of these or of the next two.
  std::optional<std::string> prompt;
  std::string prompt_file;  // "-" = stdin
  std::vector<uint32_t> prompt_ids;
  bool domain = false;
  bool everything = false;
  std::string tenant;
  std::string cache_salt;
  // warm
  std::string tier = "device";
  double pin_s = 0;
  bool compute = false;
  double timeout_s = 30;
  // evict
  std::vector<std::string> tiers;
  bool pinned = false;
  bool json = false;

  void Define(FlagSet& flags);
  // `action`: warm | evict | stats.
  absl::Status Validate(const std::string& action) const;
};

// Returns the exit code.
int RunLiveCache(const std::string& action, const LiveCacheOptions& options, const CliIo& io);

// The answers, for people.
std::string WarmText(const v1::WarmResponse& response);
std::string EvictText(const v1::EvictResponse& response);
std::string CacheStatsText(const v1::CacheStatsResponse& response);

}  // namespace sluice
