// grpc.health.v1.Health, our own so that reflection can show it.
//
//   ""                   liveness: SERVING until the process exits
//   sluice.v1.Inference  readiness: NOT_SERVING from the moment a drain begins
//   vllm.grpc.engine.VllmEngine  the same
//   sluice.v1.Control    SERVING; a draining server still answers questions
//
// Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/grpc/service_context.h"

namespace sluice {

using RawHealthService = grpc::health::v1::Health::WithRawCallbackMethod_Check<
    grpc::health::v1::Health::WithRawCallbackMethod_Watch<grpc::health::v1::Health::Service>>;

class HealthService final : public RawHealthService {
 public:
  using ServingStatus = grpc::health::v1::HealthCheckResponse::ServingStatus;

  // `context` must outlive this; this must outlive its calls.
  explicit HealthService(const ServiceContext& context);
  ~HealthService() override;

  // Readiness becomes NOT_SERVING, and watchers hear of it. Irreversible.
  void SetNotReady();
  bool ready() const;

  // Ends all watches with UNAVAILABLE, present and future.
  void Shutdown();

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Watch(grpc::CallbackServerContext* rpc,
                                                    const grpc::ByteBuffer* request) override;

 private:
  class Watcher;

  // SERVICE_UNKNOWN if there is no such service.
  ServingStatus StatusOf(const std::string& service) const;
  void Remove(const Watcher* watcher);

  const ServiceContext& context_;

  mutable std::mutex mu_;
  bool ready_ = true;                               // guarded by mu_
  bool shut_down_ = false;                          // guarded by mu_
  std::vector<std::shared_ptr<Watcher>> watchers_;  // guarded by mu_
};

}  // namespace sluice
