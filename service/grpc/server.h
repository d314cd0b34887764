// GrpcServer: all services of the process on one port.
//
//   GrpcServer::Start(options, context)  ->  BeginDrain()  ->  Shutdown(deadline)
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/grpc/server_tls.h"
#include "service/grpc/service_context.h"

namespace sluice {

struct GrpcServerOptions {
  // --- Behaviour ---

  std::string host = "127.0.0.1";  // an IPv6 address without brackets is fine
  int port = 50051;                // 0 picks a free one

  // Largest request message; above it, RESOURCE_EXHAUSTED. A prompt of a million ids needs 5 MiB.
  int64_t max_receive_bytes = int64_t{64} << 20;

  // None by default.
  ServerTls tls;

  // Open connections; more are closed at once. 0: no limit.
  int64_t max_connections = 1024;

  // From connecting to the end of the handshakes of TLS and HTTP/2.
  absl::Duration handshake_timeout = absl::Seconds(10);

  // --- Performance ---

  // Connections are probed this often when silent, and closed if they do not answer within the
  // timeout. Shorter frees the blocks of vanished clients sooner, for more packets.
  absl::Duration keepalive = absl::Seconds(30);
  absl::Duration keepalive_timeout = absl::Seconds(10);

  // Clients may probe this often, also without calls. Routers do so every 30 s.
  absl::Duration min_client_ping_interval = absl::Seconds(5);

  // Threads that detokenize and start writes. One does for tens of thousands of tokens/s.
  int pump_threads = 1;
};

class GrpcServer {
 public:
  // Serves from when it returns. What `context` refers to must outlive the server.
  // Returns INVALID_ARGUMENT or NOT_FOUND for options that cannot work, UNAVAILABLE naming the
  // address if it cannot be bound (another server on the port, no such host).
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcServerOptions& options,
                                                           ServiceContext context);
  ~GrpcServer();  // Shutdown(now), unless done
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  int port() const;
  // "127.0.0.1:50051"; what a client dials.
  std::string endpoint() const;

  // Readiness NOT_SERVING and new requests UNAVAILABLE; live ones go on. Returns at once.
  void BeginDrain();

  // Closes the port, waits for live rpcs until `grace` has passed, breaks off the others, and joins
  // all threads.
  void Shutdown(absl::Duration grace);

 private:
  class Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
