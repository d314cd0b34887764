// RedisConnection: one connection to a Redis-protocol server (RESP2), every wait bounded.
//
// hiredis formats commands. Values go around it: it would copy each one twice on the way out and
// twice on the way in, write to a closed socket with SIGPIPE, and knows no TLS (0.14). So a value
// is sent from where it lies, and received where it shall be.
//
// Commands may be sent ahead (pipelining); replies come in their order. After an error of the
// connection it is of no further use. Statuses of a connection that fails: those of
// RemoteTransport.
//
// Thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/remote_address.h"
#include "backend/kv/remote_tls.h"
#include "backend/kv/remote_transport.h"

namespace sluice {

struct RedisReply {
  enum class Type : uint8_t { kText, kError, kInteger, kValue, kNone };

  Type type = Type::kText;
  std::string text;     // kText, kError; of kValue, if received by Receive()
  int64_t integer = 0;  // kInteger
};

class RedisConnection {
 public:
  // Connects, says who it is, and chooses the database. `timeout`: of connecting, of the handshake
  // of TLS, and later of each send and of each reply. Returns PERMISSION_DENIED if the server does
  // not accept user or password, or one side the other's certificate; NOT_FOUND if a file of `tls`
  // cannot be used.
  static absl::StatusOr<std::unique_ptr<RedisConnection>> Connect(const RemoteAddress& address,
                                                                  const std::string& password,
                                                                  absl::Duration timeout,
                                                                  const RemoteTlsOptions& tls = {});
  RedisConnection(const RedisConnection&) = delete;
  RedisConnection& operator=(const RedisConnection&) = delete;

  // Adds a command to those that Flush() sends.
  void Append(const std::vector<std::string>& words);
  absl::Status Flush();

  // Sends `SET key value [EX ttl_s]`, the value in two parts, after what was appended.
  absl::Status SendSet(const std::string& key, std::span<const std::byte> head,
                       std::span<const std::byte> body, int64_t ttl_s);

  // The next reply; an error that the server answers with is one, too. Arrays are not understood.
  absl::StatusOr<RedisReply> Receive();
  // The same, to a GET: a value of head.size() + body.size() bytes is put there; one of another
  // size is received and forgotten. Of a value, `*size` says how large it was. While it comes in,
  // `arrived` hears how many bytes of `body` are there, which are still in a cache then.
  absl::StatusOr<RedisReply> ReceiveValue(
      std::span<std::byte> head, std::span<std::byte> body, size_t* size,
      absl::FunctionRef<void(size_t)> arrived = [](size_t) {});

  // One command, and its reply.
  absl::StatusOr<RedisReply> Call(const std::vector<std::string>& words);

  // Replies received so far.
  int64_t replies() const { return replies_; }

 private:
  RedisConnection(std::unique_ptr<RemoteTransport> transport, absl::Duration timeout);
  absl::Status Introduce(const RemoteAddress& address, const std::string& password);

  absl::Status SendParts(std::span<const std::span<const std::byte>> parts);
  // Receives at least one byte into the buffer.
  absl::Status Fill(absl::Time deadline);
  absl::Status ReceiveInto(std::span<std::byte> out, absl::Time deadline);
  absl::Status Skip(size_t count, absl::Time deadline);
  absl::StatusOr<std::string> ReceiveLine(absl::Time deadline);
  absl::StatusOr<RedisReply> ReceiveFront(absl::Time deadline, size_t* size);
  // Says more of an error before the first reply.
  absl::Status Explain(absl::Status status) const;

  const std::unique_ptr<RemoteTransport> transport_;
  const absl::Duration timeout_;
  std::string outgoing_;
  std::vector<std::byte> buffer_;  // received and not consumed: [begin_, end_)
  size_t begin_ = 0;
  size_t end_ = 0;
  int64_t replies_ = 0;
};

}  // namespace sluice
