// sluice.v1.Inference over the callback API.
//
// Thread-safe.
#pragma once

#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/grpc/generate_call.h"
#include "service/grpc/service_context.h"
#include "sluice/v1/inference.grpc.pb.h"

namespace sluice {

// Raw: see wire.h.
using RawInferenceService = v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithRawCallbackMethod_Explain<v1::Inference::WithRawCallbackMethod_Tokenize<
        v1::Inference::WithRawCallbackMethod_Detokenize<v1::Inference::Service>>>>;

class InferenceService final : public RawInferenceService {
 public:
  // `shared` must outlive this; this must outlive its calls.
  explicit InferenceService(GenerateShared& shared);

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* rpc,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* rpc,
                                    const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* rpc,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* rpc,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  const ServiceContext& context_;
  GenerateShared& shared_;
};

}  // namespace sluice
