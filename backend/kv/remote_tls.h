// TLS to a Redis-protocol server (rediss://), by OpenSSL: 1.2 or newer, the server's certificate
// checked against the authorities that are trusted and against the name in the URL, and one of our
// own for servers that want it.
//
// Every file is read again for every connection, so certificates are renewed while serving.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/remote_socket.h"
#include "backend/kv/remote_transport.h"

namespace sluice {

// PEM files.
struct RemoteTlsOptions {
  std::string ca_file;           // authorities to trust; empty: those that the system trusts
  std::string certificate_file;  // ours, with its chain; empty: none
  std::string key_file;          // of our certificate
};

// The handshake with `host`, a name or an address. Besides a transport's statuses:
// PERMISSION_DENIED if one side does not accept the other's certificate, NOT_FOUND if a file cannot
// be used; each says what to change.
absl::StatusOr<std::unique_ptr<RemoteTransport>> MakeTlsTransport(RemoteSocket socket,
                                                                  const std::string& host,
                                                                  const RemoteTlsOptions& options,
                                                                  absl::Time deadline);

}  // namespace sluice
