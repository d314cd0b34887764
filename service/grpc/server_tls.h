// The server's credentials: none, TLS, or TLS that demands a certificate of clients. The files are
// read again when they change, so that certificates are renewed without a restart.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/security/server_credentials.h"

namespace sluice {

// PEM files.
struct ServerTls {
  std::string certificate;  // with its chain; empty: no TLS
  std::string key;
  std::string client_ca;  // empty: clients need no certificate
  // How often the files are looked at; at least a second.
  absl::Duration reload_interval = absl::Seconds(10);
};

// Returns INVALID_ARGUMENT for a certificate without key, a key of another certificate, or a file
// that is no PEM; NOT_FOUND for a file that cannot be read. Each names the file. Checks what there
// is now: a bad file that comes later fails handshakes until a good one follows, and live
// connections go on.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const ServerTls& tls);

}  // namespace sluice
