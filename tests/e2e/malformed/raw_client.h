// Clients that do what a generated stub never would: any bytes to any method, and bytes that are
// not even gRPC.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/channel.h"
#include "grpcpp/support/status.h"

namespace sluice::malformed {

struct RawCall {
  std::string method;                 // "/sluice.v1.Inference/Generate"
  std::vector<std::string> messages;  // sent one after the other, then half-closed
  std::vector<std::pair<std::string, std::string>> metadata;
  bool compress = false;  // gzip
  std::chrono::milliseconds timeout{60'000};
};

// Makes the call, reads whatever comes, and returns its status.
grpc::Status Call(const std::shared_ptr<grpc::Channel>& channel, const RawCall& call);

// A plain TCP connection to `endpoint` ("host:port", a numeric IPv4 address or localhost). Closed
// by the destructor.
class TcpConnection {
 public:
  explicit TcpConnection(const std::string& endpoint);
  ~TcpConnection();
  TcpConnection(TcpConnection&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  TcpConnection& operator=(TcpConnection&&) = delete;

  bool connected() const { return fd_ >= 0; }

  // Best effort: the other side may have closed.
  void Send(const std::string& bytes);

  // Waits until the other side has closed, or for `timeout`. Returns whether it has.
  bool WaitForClose(std::chrono::milliseconds timeout);

 private:
  int fd_ = -1;
};

}  // namespace sluice::malformed
