// RemoteConfig: the remote KV tier of `sluice serve`: a Redis-protocol server that several share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "scheduler/base/units.h"
#include "service/config/flag_set.h"

namespace sluice {

struct RemoteConfig {
  std::string url;            // empty: no remote tier
  std::string password_file;  // empty: no password
  // PEM files, for rediss://. Empty: what the system trusts; no certificate of our own.
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
  std::optional<Bytes> limit;
  int64_t ttl_s = 86400;  // 0: for ever
  int64_t timeout_ms = 250;

  bool on() const { return !url.empty(); }
  Bytes Limit() const { return limit.value_or(MiB(8 * 1024)); }

  // Checks that concern several fields. Returns INVALID_ARGUMENT naming them.
  absl::Status Validate() const;
};

// Defines the flags (and file keys) of `config` in `flags`.
void DefineRemoteFlags(FlagSet& flags, RemoteConfig* config);

}  // namespace sluice
