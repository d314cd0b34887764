#include "backend/kv/redis_connection.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "backend/kv/remote_socket.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// For lines, and what a value begins with. What comes in behind that is copied once more, so it is
// not larger than it has to be.
constexpr size_t kBufferBytes = 4 << 10;
// Of a value, received at a time: what has arrived can be looked at in a cache while the server
// fills the socket again.
constexpr size_t kPieceBytes = 128 << 10;
constexpr size_t kMostText = 1 << 20;  // of a value that Receive() returns
// What begins an alert of TLS.
constexpr std::byte kTlsAlert{21};

absl::Status Broken(const std::string& what) { return absl::UnavailableError(what); }

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
    const RemoteAddress& address, const std::string& password, absl::Duration timeout,
    const RemoteTlsOptions& tls) {
  const absl::Time deadline = SteadyTime() + timeout;
  SLUICE_ASSIGN_OR_RETURN(RemoteSocket socket, RemoteSocket::Connect(address, timeout));
  std::unique_ptr<RemoteTransport> transport;
  if (address.tls) {
    SLUICE_ASSIGN_OR_RETURN(transport,
                            MakeTlsTransport(std::move(socket), address.host, tls, deadline));
  } else {
    SLUICE_ASSIGN_OR_RETURN(transport, MakePlainTransport(std::move(socket)));
  }
  std::unique_ptr<RedisConnection> connection(new RedisConnection(std::move(transport), timeout));
  SLUICE_RETURN_IF_ERROR(connection->Introduce(address, password));
  return connection;
}

RedisConnection::RedisConnection(std::unique_ptr<RemoteTransport> transport, absl::Duration timeout)
    : transport_(std::move(transport)), timeout_(timeout), buffer_(kBufferBytes) {}

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
  return transport_->Send(parts, SteadyTime() + timeout_);
}

// ---- In --------------------------------------------------------------------------------------

absl::Status RedisConnection::Fill(absl::Time deadline) {
  if (begin_ == end_) begin_ = end_ = 0;
  if (end_ == buffer_.size()) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
    if (end_ == buffer_.size()) return Broken("a line of its answer has no end");
  }
  const absl::StatusOr<size_t> got =
      transport_->Receive(std::span(buffer_).subspan(end_), /*all=*/false, deadline);
  if (!got.ok()) return Explain(got.status());
  end_ += *got;
  return absl::OkStatus();
}

absl::Status RedisConnection::Explain(absl::Status status) const {
  if (replies_ > 0 || transport_->secure() || !absl::IsUnavailable(status)) return status;
  const bool alert = begin_ < end_ && buffer_[begin_] == kTlsAlert;
  return Broken(absl::StrCat(status.message(), alert ? ": its port speaks TLS; use rediss://"
                                                     : " (if its port speaks TLS, use rediss://)"));
}

absl::Status RedisConnection::ReceiveInto(std::span<std::byte> out, absl::Time deadline) {
  const size_t here = std::min(out.size(), end_ - begin_);
  std::copy_n(buffer_.data() + begin_, here, out.data());
  begin_ += here;
  out = out.subspan(here);
  while (!out.empty()) {
    SLUICE_ASSIGN_OR_RETURN(const size_t got, transport_->Receive(out, /*all=*/true, deadline));
    out = out.subspan(got);
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
  const absl::Time deadline = SteadyTime() + timeout_;
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
                                                         std::span<std::byte> body, size_t* size,
                                                         absl::FunctionRef<void(size_t)> arrived) {
  const absl::Time deadline = SteadyTime() + timeout_;
  SLUICE_ASSIGN_OR_RETURN(RedisReply reply, ReceiveFront(deadline, size));
  if (reply.type == RedisReply::Type::kValue) {
    if (*size == head.size() + body.size()) {
      SLUICE_RETURN_IF_ERROR(ReceiveInto(head, deadline));
      for (size_t at = 0; at < body.size();) {
        const size_t piece = std::min(kPieceBytes, body.size() - at);
        SLUICE_RETURN_IF_ERROR(ReceiveInto(body.subspan(at, piece), deadline));
        arrived(at += piece);
      }
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
