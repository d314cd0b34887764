#include "service/config/remote_config.h"

namespace sluice {

void DefineRemoteFlags(FlagSet& flags, RemoteConfig* c) {
  flags.String("kv-remote-url", &c->url, "URL",
               "remote tier: a Redis-protocol server that several servers share; "
               "redis://[USER@]HOST[:PORT][/DB] or unix:/PATH; without TLS");
  flags.String("kv-remote-password-file", &c->password_file, "FILE",
               "its password, the first line of this file; read again for every connection");
  flags.Size("kv-remote-gib", &c->limit,
             "most KV there that this server keeps track of (default with --kv-remote-url: 8 GiB); "
             "what the store may take is its own setting");
  flags.Integer("kv-remote-ttl", &c->ttl_s, 0, int64_t{10} * 365 * 86400, "SECONDS",
                "how long KV stays there after its last use; 0 = until it is evicted");
  flags.Integer("kv-remote-timeout-ms", &c->timeout_ms, 1, 60000, "MS",
                "longest wait for one answer of it; then the KV is computed");
}

absl::Status RemoteConfig::Validate() const {
  if (on()) return absl::OkStatus();
  const char* const flag = !password_file.empty() ? "--kv-remote-password-file"
                           : limit.has_value()    ? "--kv-remote-gib"
                                                  : nullptr;
  if (flag == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": needs --kv-remote-url, the store to use"));
}

}  // namespace sluice
