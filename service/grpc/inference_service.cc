#include "service/grpc/inference_service.h"

#include <memory>
#include <vector>

#include "scheduler/base/status_macros.h"
#include "service/grpc/explain_call.h"
#include "service/grpc/unary.h"

namespace sluice {

InferenceService::InferenceService(GenerateShared& shared)
    : context_(shared.context()), shared_(shared) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request) {
  return GenerateCall::Start(rpc, *request, shared_, std::make_unique<NativeDialect>());
}

grpc::ServerUnaryReactor* InferenceService::Explain(grpc::CallbackServerContext* rpc,
                                                    const grpc::ByteBuffer* request,
                                                    grpc::ByteBuffer* response) {
  return ExplainCall::Start(*rpc, *request, response, shared_);
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* rpc,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return AnswerUnary<v1::TokenizeRequest, v1::TokenizeResponse>(
      context_, rpc, "Inference", "Tokenize", request, response,
      [this](const v1::TokenizeRequest& in, v1::TokenizeResponse* out) -> absl::Status {
        SLUICE_RETURN_IF_ERROR(CheckHasText(context_.tokenizer, "text"));
        for (const TokenId id : context_.tokenizer.Encode(in.text(), in.add_special_tokens(),
                                                          in.parse_special_tokens())) {
          out->add_ids(static_cast<uint32_t>(id));
          out->add_tokens(context_.tokenizer.TokenText(id).value_or(""));
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* rpc,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return AnswerUnary<v1::DetokenizeRequest, v1::DetokenizeResponse>(
      context_, rpc, "Inference", "Detokenize", request, response,
      [this](const v1::DetokenizeRequest& in, v1::DetokenizeResponse* out) -> absl::Status {
        SLUICE_RETURN_IF_ERROR(CheckHasText(context_.tokenizer, "ids"));
        SLUICE_ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                                CheckTokenIds(in.ids(), "ids", shared_.limits().vocab_size));
        out->set_text(context_.tokenizer.Decode(ids, in.skip_special_tokens()));
        return absl::OkStatus();
      });
}

}  // namespace sluice
