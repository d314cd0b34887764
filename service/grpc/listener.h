// Listener accepts the connections of GrpcServer and hands them to gRPC, which here has two faults
// as a listener of its own: it knows no limit, and it stops listening for good when the process is
// out of file descriptors. So whoever opened enough connections would have silenced the server.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/server_builder.h"

namespace sluice {

class Listener {
 public:
  // Binds `host` (a name or an address) and `port` (0: a free one); does not accept yet.
  // Returns UNAVAILABLE with the reason.
  static absl::StatusOr<std::unique_ptr<Listener>> Bind(const std::string& host, int port);
  ~Listener();  // Close()
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  int port() const { return port_; }

  // Accepts from now on, on a thread of its own. While `max_connections` (0: no limit) of its
  // connections are open, more are closed at once. A connection breaks if its client does not take
  // what the kernel has for it in `write_timeout`: gRPC waits for that, also when it shuts down.
  // REQUIRES: the server of `acceptor` has started.
  void Accept(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor,
              int64_t max_connections, absl::Duration write_timeout);

  // Closes the port and joins the thread. Connections stay. Again: nothing happens.
  void Close();

 private:
  // A connection as the kernel names it: gRPC does not tell when it closes one, but its descriptor
  // then is gone or stands for something else.
  struct Connection {
    int fd = -1;
    uint64_t inode = 0;
  };

  Listener(int fd, int wake, int port) : fd_(fd), wake_(wake), port_(port) {}
  void Run();
  void Take(int fd);
  bool HasRoom();
  // Waits for a connection, at most `milliseconds` (-1: any time). False: Close() was called.
  bool Wait(bool for_connection, int milliseconds) const;

  const int fd_;
  const int wake_;  // an eventfd: readable when the end has come
  const int port_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  int64_t max_connections_ = 0;
  absl::Duration write_timeout_;
  std::vector<Connection> open_;  // of the thread; some may be closed
  std::thread thread_;
  bool closed_ = false;
};

}  // namespace sluice
