#include "service/grpc/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

// After a failed accept, mostly because the process is out of file descriptors.
constexpr int kPauseMilliseconds = 100;

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

absl::StatusOr<Addresses> Resolve(const std::string& host, int port) {
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const std::string name = brackets ? host.substr(1, host.size() - 2) : host;
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(name.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (failed != 0) return absl::UnavailableError(gai_strerror(failed));
  return Addresses(found, &freeaddrinfo);
}

absl::Status Failed(int error) { return absl::UnavailableError(std::strerror(error)); }

// A listening socket on that address.
absl::StatusOr<int> Open(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Failed(errno);
  const int on = 1;
  const int off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // its connections inherit it
  if (address.ai_family == AF_INET6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  if (bind(fd, address.ai_addr, address.ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
  const int error = errno;
  close(fd);
  return Failed(error);
}

int PortOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  const in_port_t port = address.ss_family == AF_INET6
                             ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                             : reinterpret_cast<const sockaddr_in*>(&address)->sin_port;
  return ntohs(port);
}

// 0: there is no such descriptor.
uint64_t InodeOf(int fd) {
  struct stat found = {};
  return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Bind(const std::string& host, int port) {
  absl::StatusOr<Addresses> addresses = Resolve(host, port);
  if (!addresses.ok()) return addresses.status();
  absl::Status error = absl::UnavailableError("no address");
  for (const addrinfo* at = addresses->get(); at != nullptr; at = at->ai_next) {
    const absl::StatusOr<int> fd = Open(*at);
    error = fd.status();
    if (!fd.ok()) continue;
    const int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake >= 0) return std::unique_ptr<Listener>(new Listener(*fd, wake, PortOf(*fd)));
    error = Failed(errno);
    close(*fd);
  }
  return error;
}

Listener::~Listener() {
  Close();
  close(wake_);
}

void Listener::Accept(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor,
                      int64_t max_connections, absl::Duration write_timeout) {
  acceptor_ = std::move(acceptor);
  max_connections_ = max_connections;
  write_timeout_ = write_timeout;
  thread_ = std::thread([this] { Run(); });
}

void Listener::Close() {
  if (std::exchange(closed_, true)) return;
  eventfd_write(wake_, 1);
  if (thread_.joinable()) thread_.join();
  close(fd_);
}

void Listener::Run() {
  while (Wait(/*for_connection=*/true, -1)) {
    const int fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      Take(fd);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
      if (!Wait(/*for_connection=*/false, kPauseMilliseconds)) return;
    }
  }
}

void Listener::Take(int fd) {
  if (!HasRoom()) {
    close(fd);
    return;
  }
  const auto timeout = static_cast<unsigned>(absl::ToInt64Milliseconds(write_timeout_));
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
  open_.push_back({fd, InodeOf(fd)});
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.fd = fd;
  acceptor_->HandleNewConnection(&connection);
}

bool Listener::HasRoom() {
  if (max_connections_ == 0) return true;
  if (static_cast<int64_t>(open_.size()) < max_connections_) return true;
  std::erase_if(open_, [](const Connection& c) { return InodeOf(c.fd) != c.inode; });
  return static_cast<int64_t>(open_.size()) < max_connections_;
}

bool Listener::Wait(bool for_connection, int milliseconds) const {
  std::array<pollfd, 2> watched = {{{wake_, POLLIN, 0}, {fd_, POLLIN, 0}}};
  poll(watched.data(), for_connection ? nfds_t{2} : nfds_t{1}, milliseconds);
  return watched[0].revents == 0;
}

}  // namespace sluice
