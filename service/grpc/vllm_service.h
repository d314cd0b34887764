// vllm.grpc.engine.VllmEngine: what gateways that speak HTTP to clients expect of an engine. See
// "Gateways" in README.md for what each rpc does.
//
// Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/grpc/generate_call.h"
#include "service/grpc/health_service.h"
#include "service/grpc/kv_event_stream.h"
#include "service/grpc/service_context.h"
#include "service/grpc/vllm_dialect.h"
#include "vllm/grpc/engine/vllm_engine.grpc.pb.h"

namespace sluice {

// Raw: see wire.h.
template <class Service>
using RawVllmUnaries = vllm::grpc::engine::VllmEngine::WithRawCallbackMethod_Embed<
    vllm::grpc::engine::VllmEngine::WithRawCallbackMethod_HealthCheck<
        vllm::grpc::engine::VllmEngine::WithRawCallbackMethod_Abort<
            vllm::grpc::engine::VllmEngine::WithRawCallbackMethod_GetModelInfo<
                vllm::grpc::engine::VllmEngine::WithRawCallbackMethod_GetServerInfo<
                    vllm::grpc::engine::VllmEngine::WithRawCallbackMethod_GetLoads<Service>>>>>>;
using RawVllmService =
    RawVllmUnaries<vllm::grpc::engine::VllmEngine::WithRawCallbackMethod_Generate<
        vllm::grpc::engine::VllmEngine::WithRawCallbackMethod_GetTokenizer<
            vllm::grpc::engine::VllmEngine::WithRawCallbackMethod_SubscribeKvEvents<
                vllm::grpc::engine::VllmEngine::Service>>>>;

class VllmService final : public RawVllmService {
 public:
  static constexpr char kName[] = "vllm.grpc.engine.VllmEngine";

  // Both must outlive this; this must outlive its calls.
  VllmService(GenerateShared& shared, const HealthService& health);

  // Ends all subscriptions with UNAVAILABLE.
  void Shutdown() { streams_.Shutdown(); }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* rpc,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* HealthCheck(grpc::CallbackServerContext* rpc,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* rpc,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* rpc,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetLoads(grpc::CallbackServerContext* rpc,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* GetTokenizer(
      grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* SubscribeKvEvents(
      grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request) override;

 private:
  // The archive and its digest; read once. `zip_` is never written again once it is set.
  absl::StatusOr<std::shared_ptr<const std::string>> Tokenizer();

  const ServiceContext& context_;
  GenerateShared& shared_;
  const HealthService& health_;
  const absl::Time start_;
  VllmRequests requests_;
  KvEventStreams streams_;

  std::mutex mu_;
  std::shared_ptr<const std::string> zip_;  // guarded by mu_; null: not read yet
  std::string zip_sha256_;                  // guarded by mu_; set with zip_
};

}  // namespace sluice
