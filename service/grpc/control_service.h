// sluice.v1.Control: what the server is, how busy it is, and how to stop it gently.
//
// One thread of its own samples the load and waits for drains, so that no gRPC thread ever blocks.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/grpc/generate_call.h"
#include "service/grpc/health_service.h"
#include "service/grpc/load_window.h"
#include "service/grpc/service_context.h"
#include "sluice/v1/control.grpc.pb.h"

namespace sluice {

using RawControlService = v1::Control::WithRawCallbackMethod_GetServerInfo<
    v1::Control::WithRawCallbackMethod_GetLoad<v1::Control::WithRawCallbackMethod_GetActivity<
        v1::Control::WithRawCallbackMethod_Trace<v1::Control::WithRawCallbackMethod_Drain<
            v1::Control::WithRawCallbackMethod_Warm<v1::Control::WithRawCallbackMethod_Evict<
                v1::Control::WithRawCallbackMethod_CacheStats<v1::Control::Service>>>>>>>>;

class ControlService final : public RawControlService {
 public:
  // All must outlive this; this must outlive its calls.
  ControlService(const ServiceContext& context, HealthService& health, GenerateShared& shared);
  ~ControlService() override;  // shuts down

  // Readiness NOT_SERVING, new requests UNAVAILABLE. Returns at once. Irreversible.
  void BeginDrain();

  // Ends waiting drains with UNAVAILABLE, and joins the thread.
  void Shutdown();

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* rpc,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* rpc,
                                    const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetActivity(grpc::CallbackServerContext* rpc,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Trace(grpc::CallbackServerContext* rpc,
                                                    const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Warm(grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
                                 grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Evict(grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* CacheStats(grpc::CallbackServerContext* rpc,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  class DrainCall;

  void ThreadMain();
  // Answers the drains that are over.
  void SettleDrains(bool idle);
  v1::Load MakeLoad();

  const ServiceContext& context_;
  HealthService& health_;
  GenerateShared& shared_;
  const absl::Time start_;
  std::atomic<int> traces_{0};  // under way

  std::mutex mu_;
  std::condition_variable changed_;
  bool stopping_ = false;                           // guarded by mu_
  LoadWindow window_;                               // guarded by mu_
  std::vector<std::shared_ptr<DrainCall>> drains_;  // guarded by mu_; waiting

  std::thread thread_;  // last: everything above is ready when it starts
};

}  // namespace sluice
