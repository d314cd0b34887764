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
#include "grpc/health/v1/health.grpc.pb.h"
#include "service/cli/request_flags.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/inference.grpc.pb.h"

namespace sluice {

// Thread-safe.
class Client {
 public:
  // Connects to the endpoint (host:port), trying again for up to `patience`.
  // Returns INVALID_ARGUMENT if it has no port, NOT_FOUND for a certificate or token that cannot be
  // read, UNAVAILABLE if nothing answers, with what to do.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& endpoint,
                                                         absl::Duration patience,
                                                         const ClientSecurity& security = {});
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const ConnectionFlags& flags) {
    return Connect(flags.endpoint, absl::Seconds(flags.connect_timeout_s), flags.security);
  }

  v1::Inference::Stub& inference() { return *inference_; }
  v1::Control::Stub& control() { return *control_; }
  const std::string& endpoint() const { return endpoint_; }

  // Returns UNAVAILABLE or whatever the server answers, as text for people.
  absl::StatusOr<v1::ServerInfo> GetServerInfo();
  absl::StatusOr<v1::Load> GetLoad();

  // "SERVING", "NOT_SERVING" of grpc.health.v1; also for a service name the server does not know.
  absl::StatusOr<std::string> GetHealth(const std::string& service);

 private:
  Client(std::string endpoint, std::shared_ptr<grpc::Channel> channel);

  const std::string endpoint_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::Control::Stub> control_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
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
