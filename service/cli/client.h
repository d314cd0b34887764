// Client: a connection to a Sluice server, and errors in words.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/inference.grpc.pb.h"

namespace sluice {

// Thread-safe.
class Client {
 public:
  // Connects to `endpoint` (host:port, no TLS), trying again for up to `patience`.
  // Returns INVALID_ARGUMENT if `endpoint` has no port, UNAVAILABLE if nothing answers, with what
  // to do.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& endpoint,
                                                         absl::Duration patience);

  v1::Inference::Stub& inference() { return *inference_; }
  v1::Control::Stub& control() { return *control_; }
  const std::string& endpoint() const { return endpoint_; }

  // Returns UNAVAILABLE or whatever the server answers, as text for people.
  absl::StatusOr<v1::ServerInfo> GetServerInfo();
  absl::StatusOr<v1::Load> GetLoad();

 private:
  Client(std::string endpoint, std::shared_ptr<grpc::Channel> channel);

  const std::string endpoint_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::Control::Stub> control_;
};

// "RESOURCE_EXHAUSTED".
std::string CodeName(grpc::StatusCode code);

// How long the server asks to wait before another try (google.rpc.RetryInfo in the status details).
std::optional<absl::Duration> RetryDelay(const grpc::Status& status);

// "RESOURCE_EXHAUSTED: queue is full (retry in 1.5s)".
std::string DescribeError(const grpc::Status& status);

// Time since some fixed moment, never going back.
absl::Duration MonotonicNow();

}  // namespace sluice
