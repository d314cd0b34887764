// WarmCall is one Control.Warm rpc: what is cached is moved and pinned first; then, if asked for,
// the rest is computed by a request that nobody reads, and moved and pinned, too.
//
//   Ask ─> engine: Warm ─> done, or: Submit ─> its end ─> Warm ─> done
//
// Life and threads: as UnaryCall.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/server_context.h"
#include "scheduler/cache_control.h"
#include "scheduler/request.h"
#include "service/access/access_control.h"
#include "service/engine/token_stream.h"
#include "service/grpc/unary_call.h"
#include "sluice/v1/control.pb.h"

namespace sluice {

class WarmCall final : public UnaryCall {
 public:
  // Handles one rpc. `shared` must outlive the call.
  static grpc::ServerUnaryReactor* Start(const grpc::CallbackServerContext& rpc,
                                         const grpc::ByteBuffer& request,
                                         grpc::ByteBuffer* response, GenerateShared& shared);

  // From the pump.
  void OnReady() override;
  // Also ends the request that computes.
  void OnCancel() override;

 private:
  WarmCall(grpc::ByteBuffer* response, GenerateShared& shared);

  absl::Status Ask(const grpc::CallbackServerContext& rpc, const grpc::ByteBuffer& bytes);
  absl::Status AskEngine();
  absl::Status Compute();
  // Whether the result calls for computing, or is the last.
  absl::Status TakeResult(absl::StatusOr<WarmResult> result);
  absl::Status TakeEvents();

  // Set by Ask(), and constant from then on, but for what AskEngine() and Compute() move away.
  v1::WarmRequest request_;
  WarmSpec spec_;
  RequestSpec compute_;
  Tokens prompt_;
  AccessControl::Permit permit_;
  std::shared_ptr<TokenStream> stream_;  // of the request that computes; null: none yet

  std::mutex results_mu_;
  std::optional<absl::StatusOr<WarmResult>> result_;  // guarded by results_mu_
  Tokens computed_;                                   // pump thread only
};

// Seconds in a request. Returns INVALID_ARGUMENT naming `field` unless they are in [0, most].
absl::StatusOr<absl::Duration> CheckSeconds(const char* field, double seconds, double most);

}  // namespace sluice
