// RemoteSocket: a connected stream socket, closed with the object. Every wait has a deadline, on a
// clock that nobody sets (SteadyTime()).
//
// Statuses of a socket that fails: DEADLINE_EXCEEDED (not in time), UNAVAILABLE (everything else).
//
// Thread-compatible.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/remote_address.h"

namespace sluice {

// Of a clock that only goes on; not the time of day.
absl::Time SteadyTime();

class RemoteSocket {
 public:
  // Resolves the name and tries one address after the other, all of it within `timeout`, which is
  // later that of each blocking operation, too.
  static absl::StatusOr<RemoteSocket> Connect(const RemoteAddress& address, absl::Duration timeout);

  RemoteSocket(RemoteSocket&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), timeout_(other.timeout_) {}
  RemoteSocket& operator=(RemoteSocket&&) = delete;
  ~RemoteSocket();

  int fd() const { return fd_; }
  // Waits for these events of poll().
  absl::Status Wait(short events, absl::Time deadline) const;
  // Whether operations return at once with EAGAIN, or wait up to the timeout.
  absl::Status SetBlocking(bool blocking) const;
  // As Wait() says it.
  absl::Status Late() const;

 private:
  RemoteSocket(int fd, absl::Duration timeout) : fd_(fd), timeout_(timeout) {}

  int fd_;  // -1: moved from
  absl::Duration timeout_;
};

// "what: the system's words for `error`".
absl::Status BrokenBy(const char* what, int error);

}  // namespace sluice
