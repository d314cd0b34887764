// EvictCall is one Control.Evict rpc. Life and threads: as UnaryCall.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/server_context.h"
#include "scheduler/cache_control.h"
#include "service/grpc/unary_call.h"
#include "sluice/v1/control.pb.h"

namespace sluice {

class EvictCall final : public UnaryCall {
 public:
  // Handles one rpc. `shared` must outlive the call.
  static grpc::ServerUnaryReactor* Start(const grpc::CallbackServerContext& rpc,
                                         const grpc::ByteBuffer& request,
                                         grpc::ByteBuffer* response, GenerateShared& shared);

  // From the pump.
  void OnReady() override;

 private:
  EvictCall(grpc::ByteBuffer* response, GenerateShared& shared);

  absl::Status Ask(const grpc::CallbackServerContext& rpc, const grpc::ByteBuffer& bytes);
  v1::EvictResponse ResponseOf(const EvictResult& result) const;

  EvictSpec spec_;  // set by Ask()
  std::mutex results_mu_;
  std::optional<absl::StatusOr<EvictResult>> result_;  // guarded by results_mu_
};

// What CacheStats answers.
v1::CacheStatsResponse MakeCacheStats(const ServiceContext& context);

}  // namespace sluice
