#include "service/config/security_config.h"

#include <limits>

namespace sluice {

void DefineSecurityFlags(FlagSet& flags, SecurityConfig* c) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  flags.Group("Security");
  flags.String(
      "tls-cert", &c->tls_cert, "FILE",
      "PEM certificate of the server; turns TLS on for gRPC and HTTP, read again when it changes");
  flags.String("tls-key", &c->tls_key, "FILE", "PEM key of --tls-cert");
  flags.String("tls-client-ca", &c->tls_client_ca, "FILE",
               "demand of clients a certificate that is signed by one of these");
  flags.String("auth-token-file", &c->auth_token_file, "FILE",
               "demand a bearer token: lines of TOKEN TENANT [admin], read again when it changes");
  flags.Bool("isolate-tenants", &c->isolate_tenants,
             "with tokens: tenants share no cached KV, so none can learn of another's prompts");
  flags.Integer("tenant-max-concurrent", &c->tenant_max_concurrent, 0, kMost, "N",
                "most samples of one tenant under way; 0 = no limit");
  flags.Number("tenant-queue-share", &c->tenant_queue_share, 0.001, 1, "SHARE",
               "most of --max-queue that one tenant may take; 1 = no limit");
  flags.Integer("tenant-tokens-per-minute", &c->tenant_tokens_per_minute, 0, kMost, "TOKENS",
                "prompt and output tokens of one tenant; 0 = no limit");
  flags.Integer("max-message-mib", &c->max_message_mib, 1, 2047, "MIB",
                "largest gRPC request; a prompt of a million ids needs 5");
  flags.Integer("max-connections", &c->max_connections, 1, kMost, "N",
                "most open connections of HTTP, and of gRPC; more are turned away");
  flags.Number("client-timeout", &c->client_timeout_s, 0.1, 3600, "SECONDS",
               "close connections that take longer to send a request over HTTP, or to take what is "
               "written to them; headers and handshakes have 10 s at most");
}

absl::Status SecurityConfig::Validate() const {
  if (tls_cert.empty() != tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key: want both or none");
  }
  if (!tls_client_ca.empty() && tls_cert.empty()) {
    return absl::InvalidArgumentError(
        "--tls-client-ca: needs --tls-cert and --tls-key: without TLS no client shows a "
        "certificate");
  }
  return absl::OkStatus();
}

}  // namespace sluice
