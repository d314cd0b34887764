// RemoteTransport: bytes to and from a server, over a socket as they are, or inside TLS
// (remote_tls.h). Every wait has a deadline.
//
// Statuses of one that fails: DEADLINE_EXCEEDED (not in time), UNAVAILABLE (everything else),
// PERMISSION_DENIED (the other side refuses us, as TLS may after the handshake). It is of no
// further use then. Thread-compatible.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/remote_socket.h"

namespace sluice {

class RemoteTransport {
 public:
  virtual ~RemoteTransport() = default;

  // Sends all of all parts, from where they lie.
  virtual absl::Status Send(std::span<const std::span<const std::byte>> parts,
                            absl::Time deadline) = 0;

  // Receives at least one byte, and returns how many; with `all`, it may wait until `out` is full.
  // REQUIRES: `out` is not empty.
  virtual absl::StatusOr<size_t> Receive(std::span<std::byte> out, bool all,
                                         absl::Time deadline) = 0;

  // Whether nobody else reads what is sent.
  virtual bool secure() const = 0;
};

// Takes a connected socket.
absl::StatusOr<std::unique_ptr<RemoteTransport>> MakePlainTransport(RemoteSocket socket);

}  // namespace sluice
