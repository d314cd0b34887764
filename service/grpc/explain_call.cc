#include "service/grpc/explain_call.h"

#include <utility>

#include "scheduler/base/status_macros.h"
#include "service/access/access_control.h"
#include "service/grpc/access_check.h"
#include "service/grpc/explain_report.h"
#include "service/grpc/request_checks.h"
#include "service/grpc/wire.h"

namespace sluice {

grpc::ServerUnaryReactor* ExplainCall::Start(const grpc::CallbackServerContext& rpc,
                                             const grpc::ByteBuffer& request,
                                             grpc::ByteBuffer* response, GenerateShared& shared) {
  const std::shared_ptr<ExplainCall> call(new ExplainCall(response, shared));
  call->self_ = call;
  if (absl::Status asked = call->Ask(rpc, request); !asked.ok()) call->End(asked, nullptr);
  return call.get();
}

ExplainCall::ExplainCall(grpc::ByteBuffer* response, GenerateShared& shared)
    : shared_(shared), arrival_(shared.context().clock()), response_(response) {}

absl::Status ExplainCall::Ask(const grpc::CallbackServerContext& rpc,
                              const grpc::ByteBuffer& bytes) {
  const ServiceContext& context = shared_.context();
  SLUICE_ASSIGN_OR_RETURN(const Caller caller, CallerOf(context, rpc));
  v1::ExplainRequest request;
  SLUICE_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  SLUICE_ASSIGN_OR_RETURN(
      RequestSpec spec,
      CheckExplainRequest(std::move(request), shared_.limits(), context.tokenizer, arrival_));
  if (context.access != nullptr) {
    SLUICE_RETURN_IF_ERROR(context.access->Prepare(caller, &spec));
  }
  return context.engine.loop().Explain(std::move(spec), [weak = weak_from_this()](Explanation e) {
    if (const auto call = weak.lock()) call->TakeAnswer(std::move(e));
  });
}

void ExplainCall::TakeAnswer(Explanation answer) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    answer_ = std::move(answer);
  }
  shared_.pump()->Enqueue(shared_from_this());
}

void ExplainCall::OnReady() {
  std::optional<Explanation> answer;
  {
    std::lock_guard<std::mutex> lock(mu_);
    answer.swap(answer_);
  }
  if (answer.has_value()) End(answer->status, &*answer);
}

void ExplainCall::OnCancel() { End(absl::CancelledError("the client cancelled"), nullptr); }

void ExplainCall::End(const absl::Status& status, const Explanation* answer) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (end_.has_value()) return;
    end_ = status;
    if (status.ok()) {
      const std::string& storage = shared_.context().engine.loop().backend_info().storage_place;
      *response_ = SerializeMessage(MakeExplainResponse(*answer, storage));
    }
  }
  Finish(ToGrpcStatus(status, shared_.context().engine.loop().load().retry_after));
}

void ExplainCall::OnDone() {
  absl::StatusCode code = absl::StatusCode::kOk;
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (end_.has_value()) code = end_->code();
  }
  const ServiceContext& context = shared_.context();
  context.metrics.OnRpc("Inference", "Explain", code, context.clock() - arrival_);
  self_.reset();  // may delete this
}

}  // namespace sluice
