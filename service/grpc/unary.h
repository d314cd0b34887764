// One shape for all rpcs with one answer: parse, handle, serialize, count.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/grpc/access_check.h"
#include "service/grpc/service_context.h"
#include "service/grpc/wire.h"

namespace sluice {

// Answers `rpc` on the calling thread with `handle(request, &response)`, an absl::Status. `service`
// and `method` are compile-time names, for metrics; `need` is what the caller must be.
template <class Request, class Response, class Handler>
grpc::ServerUnaryReactor* AnswerUnary(const ServiceContext& context,
                                      grpc::CallbackServerContext* rpc, const char* service,
                                      const char* method, const grpc::ByteBuffer* in,
                                      grpc::ByteBuffer* out, Handler handle,
                                      Need need = Need::kToken) {
  const absl::Time start = context.clock();
  Request request;
  Response response;
  absl::Status status = CheckCaller(context, *rpc, method, need);
  if (status.ok()) status = ParseMessage(*in, &request);
  if (status.ok()) status = handle(request, &response);
  if (status.ok()) *out = SerializeMessage(response);
  context.metrics.OnRpc(service, method, status.code(), context.clock() - start);
  grpc::ServerUnaryReactor* reactor = rpc->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace sluice
