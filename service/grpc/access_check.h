// The door of service/access for gRPC: the token is in the metadata of the call.
//
// Thread-safe.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/access/caller.h"
#include "service/grpc/service_context.h"

namespace sluice {

// What a call needs, where tokens are asked for at all.
enum class Need {
  kNothing,  // probes
  kToken,    // what every tenant may know
  kAdmin,    // what tells about, or touches, other tenants
};

// Returns UNAUTHENTICATED without a valid "authorization: Bearer TOKEN".
absl::StatusOr<Caller> CallerOf(const ServiceContext& context,
                                const grpc::CallbackServerContext& rpc);

// Returns UNAUTHENTICATED or PERMISSION_DENIED; `method` is named in the message.
absl::Status CheckCaller(const ServiceContext& context, const grpc::CallbackServerContext& rpc,
                         const char* method, Need need);

// A stream that ends at once with `status`.
grpc::ServerWriteReactor<grpc::ByteBuffer>* RefuseStream(const absl::Status& status);

}  // namespace sluice
