#include "service/config/remote_config.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace sluice {

void DefineRemoteFlags(FlagSet& flags, RemoteConfig* c) {
  flags.String("kv-remote-url", &c->url, "URL",
               "remote tier: a Redis-protocol server that several servers share; "
               "redis://[USER@]HOST[:PORT][/DB], rediss:// (TLS) or unix:/PATH");
  flags.String("kv-remote-password-file", &c->password_file, "FILE",
               "its password, the first line of this file; read again for every connection");
  flags.String(
      "kv-remote-ca-file", &c->ca_file, "FILE",
      "rediss: authorities (PEM) that may have signed its certificate; default: those that "
      "the system trusts");
  flags.String("kv-remote-cert-file", &c->cert_file, "FILE",
               "rediss: our certificate with its chain (PEM), for a server that wants one");
  flags.String("kv-remote-key-file", &c->key_file, "FILE",
               "rediss: the key of --kv-remote-cert-file (PEM, without passphrase)");
  flags.Size(
      "kv-remote-gib", &c->limit,
      "most KV there that this server keeps track of (default with --kv-remote-url: 8 GiB; with "
      "--kv-disk-dir: what that holds); "
      "what the store may take is its own setting");
  flags.Integer("kv-remote-ttl", &c->ttl_s, 0, int64_t{10} * 365 * 86400, "SECONDS",
                "how long KV stays there after its last use; 0 = until it is evicted");
  flags.Integer("kv-remote-timeout-ms", &c->timeout_ms, 1, 60000, "MS",
                "longest wait for one answer of it; then the KV is computed");
}

absl::Status RemoteConfig::Validate() const {
  const char* const tls = !ca_file.empty()     ? "--kv-remote-ca-file"
                          : !cert_file.empty() ? "--kv-remote-cert-file"
                          : !key_file.empty()  ? "--kv-remote-key-file"
                                               : nullptr;
  if (!on()) {
    const char* const flag = !password_file.empty() ? "--kv-remote-password-file"
                             : limit.has_value()    ? "--kv-remote-gib"
                                                    : tls;
    if (flag == nullptr) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": needs --kv-remote-url, the store to use"));
  }
  if (tls != nullptr && !absl::StartsWith(url, "rediss://")) {
    return absl::InvalidArgumentError(
        absl::StrCat(tls, ": needs TLS: a --kv-remote-url that begins with rediss://"));
  }
  if (cert_file.empty() == key_file.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      cert_file.empty()
          ? "--kv-remote-key-file: needs --kv-remote-cert-file, the certificate it belongs to"
          : "--kv-remote-cert-file: needs --kv-remote-key-file, its key");
}

}  // namespace sluice
