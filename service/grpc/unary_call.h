// UnaryCall: an rpc with one answer that comes later, from the engine.
//
//   gRPC --Start--> engine thread --> [pump thread: OnReady] --> gRPC
//
// Life: the call holds itself from Start() to OnDone(); the engine holds weak references only. The
// first end wins. No gRPC operation runs under the lock.
//
// Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/access/retry_after.h"
#include "service/grpc/generate_call.h"
#include "service/grpc/stream_pump.h"
#include "service/grpc/wire.h"

namespace sluice {

class UnaryCall : public grpc::ServerUnaryReactor,
                  public StreamPump::Client,
                  public std::enable_shared_from_this<UnaryCall> {
 public:
  // From gRPC, any thread.
  void OnCancel() override { End(absl::CancelledError("the client cancelled")); }
  void OnDone() override {
    absl::StatusCode code = absl::StatusCode::kOk;
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (end_.has_value()) code = end_->code();
    }
    const ServiceContext& context = shared_.context();
    context.metrics.OnRpc("Control", method_, code, context.clock() - arrival_);
    self_.reset();  // may delete this
  }

 protected:
  // `method` names the rpc of Control, for metrics. `shared` must outlive the call.
  UnaryCall(const char* method, grpc::ByteBuffer* response, GenerateShared& shared)
      : method_(method), shared_(shared), arrival_(shared.context().clock()), response_(response) {}

  // Before the call is handed to gRPC.
  void Hold(std::shared_ptr<UnaryCall> self) { self_ = std::move(self); }

  GenerateShared& shared() const { return shared_; }
  absl::Time arrival() const { return arrival_; }

  void End(const absl::Status& status) { Finish(status, nullptr); }
  void Answer(const google::protobuf::Message& response) { Finish(absl::OkStatus(), &response); }
  bool ended() {
    std::lock_guard<std::mutex> lock(mu_);
    return end_.has_value();
  }

 private:
  void Finish(const absl::Status& status, const google::protobuf::Message* response) {
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (end_.has_value()) return;
      end_ = status;
      if (response != nullptr) *response_ = SerializeMessage(*response);
    }
    grpc::ServerUnaryReactor::Finish(ToGrpcStatus(
        status, RetryAfterOf(status).value_or(shared_.context().engine.loop().load().retry_after)));
  }

  const char* const method_;
  GenerateShared& shared_;
  const absl::Time arrival_;
  std::shared_ptr<UnaryCall> self_;

  std::mutex mu_;
  std::optional<absl::Status> end_;   // guarded by mu_
  grpc::ByteBuffer* const response_;  // gRPC's; not touched after Finish()
};

}  // namespace sluice
