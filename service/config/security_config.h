// SecurityConfig: who may talk to `sluice serve`, and how much of it one tenant may have.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "service/config/flag_set.h"

namespace sluice {

struct SecurityConfig {
  std::string tls_cert;  // PEM files; empty: no TLS
  std::string tls_key;
  std::string tls_client_ca;    // empty: clients need no certificate
  std::string auth_token_file;  // empty: nobody needs a token
  bool isolate_tenants = true;  // with tokens: no cached KV is shared between tenants

  int64_t tenant_max_concurrent = 0;     // 0: no limit
  double tenant_queue_share = 1;         // 1: no limit
  int64_t tenant_tokens_per_minute = 0;  // 0: no limit

  int64_t max_message_mib = 64;
  int64_t max_connections = 1024;  // of HTTP, and of gRPC
  // A client may take this long to send a request, and to take what is written to it.
  double client_timeout_s = 60;

  // Checks that concern several fields. Returns INVALID_ARGUMENT naming them.
  absl::Status Validate() const;
};

// Defines the flags (and file keys) of `config` in `flags`.
void DefineSecurityFlags(FlagSet& flags, SecurityConfig* config);

}  // namespace sluice
