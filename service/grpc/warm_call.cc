#include "service/grpc/warm_call.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/grpc/access_check.h"
#include "service/grpc/request_checks.h"

namespace sluice {
namespace {

constexpr double kMostPinSeconds = 86'400;
constexpr double kMostTimeoutSeconds = 3600;
constexpr absl::Duration kDefaultTimeout = absl::Seconds(30);
constexpr int32_t kLowestPriority = -100;

absl::StatusOr<Tier> ParseTier(const std::string& name) {
  if (name.empty() || name == "device") return Tier::kDevice;
  if (name == "host") return Tier::kHost;
  return absl::InvalidArgumentError(
      absl::StrCat("tier: \"", name, "\" is not \"device\" or \"host\""));
}

// The prompt as a request of one token.
absl::StatusOr<RequestSpec> RequestOf(v1::WarmRequest request, const GenerateShared& shared,
                                      absl::Time now) {
  v1::ExplainRequest question;
  if (request.has_text()) question.set_text(std::move(*request.mutable_text()));
  if (request.has_token_ids()) question.mutable_token_ids()->Swap(request.mutable_token_ids());
  *question.mutable_scheduling() = request.scheduling();
  if (request.scheduling().priority() == 0) {
    question.mutable_scheduling()->set_priority(kLowestPriority);
  }
  question.set_max_tokens(1);
  return CheckExplainRequest(std::move(question), shared.limits(), shared.context().tokenizer, now);
}

uint32_t Count(Tokens tokens) { return static_cast<uint32_t>(tokens.value()); }

}  // namespace

absl::StatusOr<absl::Duration> CheckSeconds(const char* field, double seconds, double most) {
  if (seconds >= 0 && seconds <= most) return absl::Seconds(seconds);
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": ", seconds, " is not in [0, ", most, "]"));
}

grpc::ServerUnaryReactor* WarmCall::Start(const grpc::CallbackServerContext& rpc,
                                          const grpc::ByteBuffer& request,
                                          grpc::ByteBuffer* response, GenerateShared& shared) {
  const std::shared_ptr<WarmCall> call(new WarmCall(response, shared));
  call->Hold(call);
  if (absl::Status asked = call->Ask(rpc, request); !asked.ok()) call->End(asked);
  return call.get();
}

WarmCall::WarmCall(grpc::ByteBuffer* response, GenerateShared& shared)
    : UnaryCall("Warm", response, shared) {}

absl::Status WarmCall::Ask(const grpc::CallbackServerContext& rpc, const grpc::ByteBuffer& bytes) {
  const ServiceContext& context = shared().context();
  SLUICE_ASSIGN_OR_RETURN(const Caller caller, CallerOf(context, rpc));
  SLUICE_RETURN_IF_ERROR(ParseMessage(bytes, &request_));
  SLUICE_ASSIGN_OR_RETURN(spec_.tier, ParseTier(request_.tier()));
  SLUICE_ASSIGN_OR_RETURN(spec_.pin, CheckSeconds("pin_s", request_.pin_s(), kMostPinSeconds));
  SLUICE_ASSIGN_OR_RETURN(absl::Duration timeout,
                          CheckSeconds("timeout_s", request_.timeout_s(), kMostTimeoutSeconds));
  if (timeout == absl::ZeroDuration()) timeout = kDefaultTimeout;
  spec_.deadline = arrival() + timeout;
  SLUICE_ASSIGN_OR_RETURN(RequestSpec spec, RequestOf(request_, shared(), arrival()));
  if (context.access != nullptr) {
    if (request_.compute()) {
      std::vector<RequestSpec> samples = {std::move(spec)};
      SLUICE_ASSIGN_OR_RETURN(permit_, context.access->Admit(caller, &samples));
      spec = std::move(samples.front());
    } else {
      SLUICE_RETURN_IF_ERROR(context.access->Prepare(caller, &spec));
    }
  }
  prompt_ = Tokens(static_cast<int64_t>(spec.prompt.size()));
  spec_.tokens = spec.prompt;
  spec_.cache_salt = spec.cache_salt;
  compute_ = std::move(spec);
  compute_.id = shared().NextId();
  return AskEngine();
}

absl::Status WarmCall::AskEngine() {
  const std::weak_ptr<UnaryCall> weak = weak_from_this();
  return shared().context().engine.loop().Warm(
      spec_, [weak, pump = shared().pump()](absl::StatusOr<WarmResult> result) {
        const std::shared_ptr<UnaryCall> held = weak.lock();
        if (held == nullptr) return;
        auto* call = static_cast<WarmCall*>(held.get());
        {
          std::lock_guard<std::mutex> lock(call->results_mu_);
          call->result_ = std::move(result);
        }
        pump->Enqueue(held);
      });
}

absl::Status WarmCall::Compute() {
  const std::weak_ptr<UnaryCall> weak = weak_from_this();
  auto on_ready = [weak, pump = shared().pump()] {
    if (std::shared_ptr<UnaryCall> call = weak.lock()) pump->Enqueue(std::move(call));
  };
  stream_ = std::make_shared<TokenStream>(shared().context().stream_capacity, std::move(on_ready));
  return shared().context().engine.loop().Submit(compute_, stream_);
}

absl::Status WarmCall::TakeResult(absl::StatusOr<WarmResult> result) {
  SLUICE_RETURN_IF_ERROR(result.status());
  const Tokens block = shared().context().engine.loop().backend_info().geometry.tokens_per_block;
  if (request_.compute() && stream_ == nullptr && result->missing >= block) return Compute();
  const absl::Time now = shared().context().clock();
  v1::WarmResponse response;
  response.set_prompt_tokens(Count(prompt_));
  response.set_ready_tokens(Count(result->ready));
  response.set_elsewhere_tokens(Count(result->elsewhere));
  response.set_missing_tokens(Count(result->missing));
  response.set_computed_tokens(Count(computed_));
  response.set_pinned_tokens(Count(result->pinned));
  if (result->pinned > Tokens(0)) {
    response.set_pinned_s(absl::ToDoubleSeconds(result->pinned_until - now));
  }
  response.set_timed_out(!result->in_time);
  Answer(response);
  return absl::OkStatus();
}

absl::Status WarmCall::TakeEvents() {
  for (const Event& event : stream_->TakeAll()) {
    if (event.token.has_value()) permit_.Started();
    if (!event.finish.has_value()) continue;
    SLUICE_RETURN_IF_ERROR(event.finish->status);
    computed_ = event.finish->stats.computed;
    return AskEngine();
  }
  return absl::OkStatus();
}

void WarmCall::OnReady() {
  if (ended()) return;
  std::optional<absl::StatusOr<WarmResult>> result;
  {
    std::lock_guard<std::mutex> lock(results_mu_);
    result.swap(result_);
  }
  absl::Status status;
  if (result.has_value()) {
    status = TakeResult(*std::move(result));
  } else if (stream_ != nullptr) {
    status = TakeEvents();
  }
  if (!status.ok()) End(status);
}

void WarmCall::OnCancel() {
  // Before it is submitted, and once it has ended, the engine knows no such id.
  shared().context().engine.loop().Cancel(compute_.id);
  UnaryCall::OnCancel();
}

}  // namespace sluice
