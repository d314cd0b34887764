#include "backend/kv/remote_transport.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

class PlainTransport final : public RemoteTransport {
 public:
  explicit PlainTransport(RemoteSocket socket) : socket_(std::move(socket)) {}

  absl::Status Send(std::span<const std::span<const std::byte>> parts,
                    absl::Time deadline) override;
  absl::StatusOr<size_t> Receive(std::span<std::byte> out, bool all, absl::Time deadline) override;
  bool secure() const override { return false; }

 private:
  const RemoteSocket socket_;
};

absl::Status PlainTransport::Send(std::span<const std::span<const std::byte>> parts,
                                  absl::Time deadline) {
  std::vector<iovec> left;
  for (const std::span<const std::byte> part : parts) {
    // sendmsg() does not write to what it is given.
    if (!part.empty()) left.push_back({const_cast<std::byte*>(part.data()), part.size()});
  }
  size_t first = 0;
  while (first < left.size()) {
    msghdr message{};
    message.msg_iov = left.data() + first;
    message.msg_iovlen = left.size() - first;
    const ssize_t sent = sendmsg(socket_.fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return BrokenBy("cannot send", errno);
    auto done = static_cast<size_t>(std::max<ssize_t>(0, sent));
    while (first < left.size() && done >= left[first].iov_len) done -= left[first++].iov_len;
    if (first == left.size()) break;
    left[first].iov_base = static_cast<std::byte*>(left[first].iov_base) + done;
    left[first].iov_len -= done;
    SLUICE_RETURN_IF_ERROR(socket_.Wait(POLLOUT, deadline));
  }
  return absl::OkStatus();
}

// Waits in the kernel, as long as the socket's own limit allows: one call instead of three where
// bytes are not there yet, and large values come in many pieces.
absl::StatusOr<size_t> PlainTransport::Receive(std::span<std::byte> out, bool all,
                                               absl::Time deadline) {
  while (SteadyTime() < deadline) {
    const ssize_t got = recv(socket_.fd(), out.data(), out.size(), all ? MSG_WAITALL : 0);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0) return absl::UnavailableError("the server closed the connection");
    if (errno == EINTR || errno == EAGAIN) continue;
    return BrokenBy("cannot receive", errno);
  }
  return socket_.Late();
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteTransport>> MakePlainTransport(RemoteSocket socket) {
  SLUICE_RETURN_IF_ERROR(socket.SetBlocking(true));
  return std::make_unique<PlainTransport>(std::move(socket));
}

}  // namespace sluice
