#include "backend/kv/redis_connection.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kBufferBytes = 256 << 10;
constexpr size_t kMostText = 1 << 20;  // of a value that Receive() returns

// The wall clock may be set; this one may not.
absl::Time Now() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

absl::Status Broken(const std::string& what) { return absl::UnavailableError(what); }

absl::Status BrokenBy(const char* what, int error) {
  return Broken(absl::StrCat(what, ": ", std::strerror(error)));
}

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// The reply to a command that must succeed.
absl::Status Accepted(const absl::StatusOr<RedisReply>& reply, const char* command) {
  if (!reply.ok()) return reply.status();
  if (reply->type != RedisReply::Type::kError) return absl::OkStatus();
  const std::string said = absl::StrCat(command, ": ", reply->text);
  const auto is = [&](const char* code) { return absl::StartsWith(reply->text, code); };
  if (is("NOAUTH") || is("WRONGPASS") || is("NOPERM") || is("ERR AUTH") || is("ERR Client sent") ||
      is("ERR invalid password")) {
    return absl::PermissionDeniedError(said);
  }
  return Broken(said);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RedisConnection>> RedisConnection::Connect(
    const RemoteAddress& address, const std::string& password, absl::Duration timeout) {
  const timeval limit = absl::ToTimeval(timeout);
  redisContext* context = address.host.empty()
                              ? redisConnectUnixWithTimeout(address.path.c_str(), limit)
                              : redisConnectWithTimeout(address.host.c_str(), address.port, limit);
  if (context == nullptr) return Broken("cannot connect: out of memory");
  std::unique_ptr<RedisConnection> connection(new RedisConnection(context, timeout));
  if (context->err != 0) {
    const bool late = context->err == REDIS_ERR_IO && (errno == ETIMEDOUT || errno == EAGAIN);
    const std::string what = absl::StrCat("cannot connect: ", context->errstr);
    return late ? absl::DeadlineExceededError(what) : Broken(what);
  }
  if (redisSetTimeout(context, limit) != REDIS_OK) return Broken("cannot limit its waits");
  SLUICE_RETURN_IF_ERROR(connection->Introduce(address, password));
  return connection;
}

RedisConnection::RedisConnection(redisContext* context, absl::Duration timeout)
    : context_(context), timeout_(timeout), buffer_(kBufferBytes) {}

RedisConnection::~RedisConnection() { redisFree(context_); }

absl::Status RedisConnection::Introduce(const RemoteAddress& address, const std::string& password) {
  if (!password.empty()) {
    std::vector<std::string> words = {"AUTH"};
    if (!address.user.empty()) words.push_back(address.user);
    words.push_back(password);
    SLUICE_RETURN_IF_ERROR(Accepted(Call(words), "AUTH"));
  }
  if (address.db != 0) {
    SLUICE_RETURN_IF_ERROR(Accepted(Call({"SELECT", absl::StrCat(address.db)}), "SELECT"));
  }
  return Accepted(Call({"PING"}), "PING");
}

// ---- Out -------------------------------------------------------------------------------------

void RedisConnection::Append(const std::vector<std::string>& words) {
  std::vector<const char*> texts;
  std::vector<size_t> sizes;
  for (const std::string& word : words) {
    texts.push_back(word.data());
    sizes.push_back(word.size());
  }
  char* command = nullptr;
  const int size =
      redisFormatCommandArgv(&command, static_cast<int>(words.size()), texts.data(), sizes.data());
  if (size > 0) outgoing_.append(command, static_cast<size_t>(size));
  redisFreeCommand(command);
}

absl::Status RedisConnection::Flush() {
  const std::string out = std::exchange(outgoing_, {});
  const std::array<std::span<const std::byte>, 1> parts = {BytesOf(out)};
  return SendParts(parts);
}

absl::Status RedisConnection::SendSet(const std::string& key, std::span<const std::byte> head,
                                      std::span<const std::byte> body, int64_t ttl_s) {
  const std::string front =
      absl::StrCat(std::exchange(outgoing_, {}), ttl_s > 0 ? "*5" : "*3", "\r\n$3\r\nSET\r\n$",
                   key.size(), "\r\n", key, "\r\n$", head.size() + body.size(), "\r\n");
  const std::string ttl = absl::StrCat(ttl_s);
  const std::string back =
      ttl_s > 0 ? absl::StrCat("\r\n$2\r\nEX\r\n$", ttl.size(), "\r\n", ttl, "\r\n") : "\r\n";
  const std::array<std::span<const std::byte>, 4> parts = {BytesOf(front), head, body,
                                                           BytesOf(back)};
  return SendParts(parts);
}

absl::Status RedisConnection::SendParts(std::span<const std::span<const std::byte>> parts) {
  const absl::Time deadline = Now() + timeout_;
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
    const ssize_t sent = sendmsg(context_->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return BrokenBy("cannot send", errno);
    auto done = static_cast<size_t>(std::max<ssize_t>(0, sent));
    while (first < left.size() && done >= left[first].iov_len) done -= left[first++].iov_len;
    if (first == left.size()) break;
    left[first].iov_base = static_cast<std::byte*>(left[first].iov_base) + done;
    left[first].iov_len -= done;
    SLUICE_RETURN_IF_ERROR(WaitFor(POLLOUT, deadline));
  }
  return absl::OkStatus();
}

absl::Status RedisConnection::WaitFor(short events, absl::Time deadline) {
  while (true) {
    const absl::Duration left = deadline - Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(
          absl::StrCat("no answer within ", absl::FormatDuration(timeout_)));
    }
    pollfd wait{context_->fd, events, 0};
    const timespec most = absl::ToTimespec(left);
    const int ready = ppoll(&wait, 1, &most, nullptr);
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return BrokenBy("cannot wait", errno);
  }
}

// ---- In --------------------------------------------------------------------------------------

absl::Status RedisConnection::Fill(absl::Time deadline) {
  if (begin_ == end_) begin_ = end_ = 0;
  if (end_ == buffer_.size()) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
    if (end_ == buffer_.size()) return Broken("a line of its answer has no end");
  }
  while (true) {
    const ssize_t got =
        recv(context_->fd, buffer_.data() + end_, buffer_.size() - end_, MSG_DONTWAIT);
    if (got > 0) {
      end_ += static_cast<size_t>(got);
      return absl::OkStatus();
    }
    if (got == 0) return Broken("the server closed the connection");
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return BrokenBy("cannot receive", errno);
    SLUICE_RETURN_IF_ERROR(WaitFor(POLLIN, deadline));
  }
}

absl::Status RedisConnection::ReceiveInto(std::span<std::byte> out, absl::Time deadline) {
  const size_t here = std::min(out.size(), end_ - begin_);
  std::copy_n(buffer_.data() + begin_, here, out.data());
  begin_ += here;
  out = out.subspan(here);
  while (!out.empty()) {
    // Waits in the kernel, as long as redisSetTimeout() allows: large values come in many pieces.
    const ssize_t got = recv(context_->fd, out.data(), out.size(), MSG_WAITALL);
    if (got > 0) {
      out = out.subspan(static_cast<size_t>(got));
      // One that sends a few bytes at a time is late, too.
      if (!out.empty()) SLUICE_RETURN_IF_ERROR(WaitFor(POLLIN, deadline));
      continue;
    }
    if (got == 0) return Broken("the server closed the connection");
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return BrokenBy("cannot receive", errno);
    SLUICE_RETURN_IF_ERROR(WaitFor(POLLIN, deadline));
  }
  return absl::OkStatus();
}

absl::Status RedisConnection::Skip(size_t count, absl::Time deadline) {
  while (count > 0) {
    if (begin_ == end_) SLUICE_RETURN_IF_ERROR(Fill(deadline));
    const size_t part = std::min(count, end_ - begin_);
    begin_ += part;
    count -= part;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RedisConnection::ReceiveLine(absl::Time deadline) {
  size_t looked = 0;
  while (true) {
    for (; begin_ + looked + 1 < end_; ++looked) {
      const std::byte* const at = buffer_.data() + begin_ + looked;
      if (at[0] != std::byte{'\r'} || at[1] != std::byte{'\n'}) continue;
      const char* const text = reinterpret_cast<const char*>(buffer_.data() + begin_);
      std::string line(text, looked);
      begin_ += looked + 2;
      return line;
    }
    SLUICE_RETURN_IF_ERROR(Fill(deadline));
  }
}

// All of a reply but the bytes of a value: `*size` of them follow.
absl::StatusOr<RedisReply> RedisConnection::ReceiveFront(absl::Time deadline, size_t* size) {
  SLUICE_ASSIGN_OR_RETURN(const std::string line, ReceiveLine(deadline));
  RedisReply reply;
  const std::string rest = line.empty() ? line : line.substr(1);
  const char kind = line.empty() ? ' ' : line[0];
  int64_t number = 0;
  if (kind == '+' || kind == '-') {
    reply.type = kind == '+' ? RedisReply::Type::kText : RedisReply::Type::kError;
    reply.text = rest;
    return reply;
  }
  if ((kind != ':' && kind != '$') || !absl::SimpleAtoi(rest, &number) ||
      (kind == '$' && number < -1)) {
    return Broken(absl::StrCat("not an answer of the Redis protocol: '", line.substr(0, 40), "'"));
  }
  if (kind == ':') {
    reply.type = RedisReply::Type::kInteger;
    reply.integer = number;
  } else {
    reply.type = number < 0 ? RedisReply::Type::kNone : RedisReply::Type::kValue;
    *size = static_cast<size_t>(std::max<int64_t>(0, number));
  }
  return reply;
}

absl::StatusOr<RedisReply> RedisConnection::Receive() {
  const absl::Time deadline = Now() + timeout_;
  size_t size = 0;
  SLUICE_ASSIGN_OR_RETURN(RedisReply reply, ReceiveFront(deadline, &size));
  if (reply.type == RedisReply::Type::kValue) {
    if (size > kMostText)
      return Broken(absl::StrCat("a value of ", size, " bytes is not expected"));
    reply.text.resize(size);
    SLUICE_RETURN_IF_ERROR(ReceiveInto(std::as_writable_bytes(std::span(reply.text)), deadline));
    SLUICE_RETURN_IF_ERROR(Skip(2, deadline));
  }
  ++replies_;
  return reply;
}

absl::StatusOr<RedisReply> RedisConnection::ReceiveValue(std::span<std::byte> head,
                                                         std::span<std::byte> body, size_t* size) {
  const absl::Time deadline = Now() + timeout_;
  SLUICE_ASSIGN_OR_RETURN(RedisReply reply, ReceiveFront(deadline, size));
  if (reply.type == RedisReply::Type::kValue) {
    if (*size == head.size() + body.size()) {
      SLUICE_RETURN_IF_ERROR(ReceiveInto(head, deadline));
      SLUICE_RETURN_IF_ERROR(ReceiveInto(body, deadline));
      SLUICE_RETURN_IF_ERROR(Skip(2, deadline));
    } else {
      SLUICE_RETURN_IF_ERROR(Skip(*size + 2, deadline));
    }
  }
  ++replies_;
  return reply;
}

absl::StatusOr<RedisReply> RedisConnection::Call(const std::vector<std::string>& words) {
  Append(words);
  SLUICE_RETURN_IF_ERROR(Flush());
  return Receive();
}

}  // namespace sluice
