// The addresses of a host, by name. Nobody waits for a name server longer than told: a look-up
// cannot be interrupted, so one that is given up ends by itself, on a thread of the C library.
//
// Thread-safe.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sluice {

struct SocketAddress {
  sockaddr_storage bytes;
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&bytes); }
  int family() const { return bytes.ss_family; }
};

// In the order in which they should be tried; at least one. A numeric address is not looked up.
// Returns DEADLINE_EXCEEDED if nobody knows within `timeout`, UNAVAILABLE if there is no such host,
// or too many look-ups that were given up still run.
absl::StatusOr<std::vector<SocketAddress>> ResolveHost(const std::string& host, int port,
                                                       absl::Duration timeout);

}  // namespace sluice
