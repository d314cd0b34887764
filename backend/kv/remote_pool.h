// RemotePool: connections to one Redis-protocol server, and the circuit breaker before them. Who
// needs the server takes a connection, and gives it back if nothing went wrong with it; while the
// breaker is not closed there is none, at once.
//
// The password is read from its file for every new connection, so it can be changed while serving;
// so are certificates.
//
// Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/circuit_breaker.h"
#include "backend/kv/redis_connection.h"
#include "backend/kv/remote_address.h"
#include "backend/kv/remote_stats.h"

namespace sluice {

struct RemotePoolOptions {
  RemoteAddress address;
  std::string password_file;  // empty: no password
  RemoteTlsOptions tls;       // for an address with TLS
  absl::Duration timeout = absl::Milliseconds(250);
  CircuitBreakerOptions breaker;
  // Tells a person when the breaker opens and closes. May be empty.
  std::function<void(const std::string&)> log;
  std::function<absl::Time()> clock;  // must not go back
};

class RemotePool {
 public:
  explicit RemotePool(RemotePoolOptions options);

  // Runs `work` with a connection. An error that it returns is one of the connection, which is then
  // closed; what a server answers is not. Once more with a new connection if an idle one turns out
  // to be closed before the first reply, as after a restart of the server.
  // Returns UNAVAILABLE at once while the breaker is not closed, else what connecting or `work`
  // returned.
  absl::Status Run(absl::FunctionRef<absl::Status(RedisConnection&)> work);

  // An answer that says that the server cannot serve anybody now (it loads its data, wants another
  // password, ...), received by `work`.
  void NoteRefusal(const absl::Status& status);

  // Whether there is any use in asking now.
  bool closed() const;
  // Makes the breaker's trial if it is time: connects, and asks for a sign of life.
  void Tend();
  // When Tend() may have something to do.
  absl::Time next_trial() const;

  // The first connection. Returns PERMISSION_DENIED if password or certificate is not accepted,
  // NOT_FOUND if a file cannot be read, UNAVAILABLE or DEADLINE_EXCEEDED if nobody answers; the
  // breaker is open then, and serving may start.
  absl::Status Start();

  const RemoteAddress& address() const { return options_.address; }
  absl::Duration timeout() const { return options_.timeout; }
  // Those of connections and breaker.
  void AddStats(RemoteStats* stats) const;

 private:
  absl::StatusOr<std::unique_ptr<RedisConnection>> Connect();
  std::unique_ptr<RedisConnection> TakeIdle();
  int64_t Refusals() const;
  void Succeed(bool trial);
  void Fail(const absl::Status& status, bool trial);
  void Say(const std::string& text) const {
    if (options_.log) options_.log(text);
  }

  const RemotePoolOptions options_;

  mutable std::mutex mu_;
  CircuitBreaker breaker_;                              // guarded by mu_, as is what follows
  std::vector<std::unique_ptr<RedisConnection>> idle_;  // the last one used last
  int64_t connections_made_ = 0;
  int64_t refusals_ = 0;
  std::array<int64_t, kRemoteErrorCount> errors_{};
};

}  // namespace sluice
