// ExplainCall is one Explain rpc: a question that waits in the engine's inbox for its next turn.
//
//   gRPC --Start--> engine thread --> [pump thread: OnReady] --> gRPC
//
// Life: as GenerateCall. The engine holds weak references only.
//
// Thread-safe. No gRPC operation runs under the lock.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "scheduler/explanation.h"
#include "service/grpc/generate_call.h"
#include "service/grpc/stream_pump.h"

namespace sluice {

class ExplainCall final : public grpc::ServerUnaryReactor,
                          public StreamPump::Client,
                          public std::enable_shared_from_this<ExplainCall> {
 public:
  // Handles one rpc; the call deletes itself when gRPC is done with it. `shared` must outlive it.
  static grpc::ServerUnaryReactor* Start(const grpc::CallbackServerContext& rpc,
                                         const grpc::ByteBuffer& request,
                                         grpc::ByteBuffer* response, GenerateShared& shared);

  // From the pump.
  void OnReady() override;

  // From gRPC, any thread.
  void OnCancel() override;
  void OnDone() override;

 private:
  ExplainCall(grpc::ByteBuffer* response, GenerateShared& shared);

  absl::Status Ask(const grpc::CallbackServerContext& rpc, const grpc::ByteBuffer& request);
  // From the engine thread.
  void TakeAnswer(Explanation answer);
  // The first end wins.
  void End(const absl::Status& status, const Explanation* answer);

  GenerateShared& shared_;
  const absl::Time arrival_;
  std::shared_ptr<ExplainCall> self_;  // set by Start(), reset by OnDone()

  std::mutex mu_;
  std::optional<Explanation> answer_;  // guarded by mu_
  std::optional<absl::Status> end_;    // guarded by mu_
  grpc::ByteBuffer* const response_;   // gRPC's; not touched after Finish()
};

}  // namespace sluice
