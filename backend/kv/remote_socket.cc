#include "backend/kv/remote_socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/kv/remote_resolver.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

SocketAddress UnixAddress(const std::string& path) {
  SocketAddress address{};
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::copy_n(path.data(), std::min(path.size(), sizeof(name.sun_path) - 1), name.sun_path);
  std::memcpy(&address.bytes, &name, sizeof(name));
  address.size = sizeof(name);
  return address;
}

absl::Status ConnectOne(const RemoteSocket& socket, const SocketAddress& address,
                        absl::Time deadline) {
  if (connect(socket.fd(), address.get(), address.size) == 0) return absl::OkStatus();
  // A unix socket whose queue is full says so at once.
  if (errno != EINPROGRESS) return BrokenBy("cannot connect", errno);
  SLUICE_RETURN_IF_ERROR(socket.Wait(POLLOUT, deadline));
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  return error == 0 ? absl::OkStatus() : BrokenBy("cannot connect", error);
}

}  // namespace

absl::Time SteadyTime() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

absl::Status BrokenBy(const char* what, int error) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(error)));
}

absl::StatusOr<RemoteSocket> RemoteSocket::Connect(const RemoteAddress& address,
                                                   absl::Duration timeout) {
  const absl::Time deadline = SteadyTime() + timeout;
  std::vector<SocketAddress> places;
  if (address.host.empty()) {
    places.push_back(UnixAddress(address.path));
  } else {
    SLUICE_ASSIGN_OR_RETURN(places, ResolveHost(address.host, address.port, timeout));
  }
  absl::Status status;
  for (size_t i = 0; i < places.size(); ++i) {
    const int fd = socket(places[i].family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return BrokenBy("cannot make a socket", errno);
    RemoteSocket made(fd, timeout);
    const int on = 1;
    if (!address.host.empty()) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    // One that does not answer leaves time for those behind it.
    const absl::Time now = SteadyTime();
    const absl::Duration share = (deadline - now) / static_cast<int64_t>(places.size() - i);
    status = ConnectOne(made, places[i], now + share);
    if (status.ok()) return made;
  }
  return status;
}

RemoteSocket::~RemoteSocket() {
  if (fd_ >= 0) close(fd_);
}

absl::Status RemoteSocket::Late() const {
  return absl::DeadlineExceededError(
      absl::StrCat("no answer within ", absl::FormatDuration(timeout_)));
}

absl::Status RemoteSocket::Wait(short events, absl::Time deadline) const {
  while (true) {
    const absl::Duration left = deadline - SteadyTime();
    if (left <= absl::ZeroDuration()) return Late();
    pollfd wait{fd_, events, 0};
    const timespec most = absl::ToTimespec(left);
    const int ready = ppoll(&wait, 1, &most, nullptr);
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return BrokenBy("cannot wait", errno);
  }
}

absl::Status RemoteSocket::SetBlocking(bool blocking) const {
  const int flags = fcntl(fd_, F_GETFL);
  if (flags < 0 || fcntl(fd_, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) != 0) {
    return BrokenBy("cannot set up its socket", errno);
  }
  const timeval limit = absl::ToTimeval(timeout_);
  if (setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0) return absl::OkStatus();
  return BrokenBy("cannot limit its waits", errno);
}

}  // namespace sluice
