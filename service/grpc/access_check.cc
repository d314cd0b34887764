#include "service/grpc/access_check.h"

#include "scheduler/base/status_macros.h"
#include "service/access/access_control.h"
#include "service/grpc/wire.h"

namespace sluice {
namespace {

constexpr char kAuthorizationKey[] = "authorization";

class RefusedStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedStream(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

absl::StatusOr<Caller> CallerOf(const ServiceContext& context,
                                const grpc::CallbackServerContext& rpc) {
  if (context.access == nullptr) return Caller();
  const auto header = rpc.client_metadata().find(kAuthorizationKey);
  if (header == rpc.client_metadata().end()) return context.access->Authenticate("");
  return context.access->Authenticate({header->second.data(), header->second.size()});
}

absl::Status CheckCaller(const ServiceContext& context, const grpc::CallbackServerContext& rpc,
                         const char* method, Need need) {
  if (need == Need::kNothing) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(const Caller caller, CallerOf(context, rpc));
  return need == Need::kAdmin ? AccessControl::CheckAdmin(caller, method) : absl::OkStatus();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RefuseStream(const absl::Status& status) {
  return new RefusedStream(status);
}

}  // namespace sluice
