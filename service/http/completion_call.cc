#include "service/http/completion_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"
#include "service/access/retry_after.h"
#include "service/grpc/request_checks.h"
#include "service/grpc/trace_parent.h"
#include "service/http/api_error.h"

namespace sluice {
namespace {

constexpr char kTenantHeader[] = "x-sluice-tenant";
constexpr char kRequestIdHeader[] = "x-request-id";
constexpr char kTraceHeader[] = "traceparent";
// As CheckGenerateRequest() has it: no vocabulary packs more bytes into the average token.
constexpr int64_t kMaxBytesPerToken = 256;

const char* MethodName(ApiKind kind) {
  return kind == ApiKind::kChat ? "ChatCompletions" : "Completions";
}

}  // namespace

std::shared_ptr<HttpCall> CompletionCall::Start(ApiKind kind, const HttpRequest& request,
                                                const Caller& caller,
                                                std::shared_ptr<HttpExchange> exchange,
                                                ApiContext& context) {
  const std::shared_ptr<CompletionCall> call(
      new CompletionCall(kind, std::move(exchange), context));
  std::lock_guard<std::mutex> lock(call->mu_);
  if (const absl::Status submitted = call->SubmitLocked(request, caller); !submitted.ok()) {
    call->EndLocked(submitted);
    return nullptr;
  }
  return call;
}

CompletionCall::CompletionCall(ApiKind kind, std::shared_ptr<HttpExchange> exchange,
                               ApiContext& context)
    : context_(context),
      kind_(kind),
      exchange_(std::move(exchange)),
      arrival_(context.service().clock()) {}

CompletionCall::~CompletionCall() { CancelSamplesLocked(); }

absl::Status CompletionCall::CheckModelName(const std::string& model) const {
  const std::string& served = context_.service().info.model();
  if (model.empty() || model == served) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("The model `", model.substr(0, 200),
                                          "` does not exist; this server serves `", served, "`"));
}

absl::Status CompletionCall::RenderChat(ApiRequest* request) const {
  const Tokenizer& tokenizer = context_.service().tokenizer;
  SLUICE_RETURN_IF_ERROR(CheckHasText(tokenizer, "messages"));
  ChatOptions options;
  options.add_generation_prompt = request->add_generation_prompt;
  options.variables = &request->template_variables;
  options.now = absl::Now();
  const ChatTemplate& chat_template = context_.chat_template();
  SLUICE_ASSIGN_OR_RETURN(const std::string text, chat_template.Render(request->messages, options));
  const int64_t most = context_.limits().max_model_len.value();
  const auto bytes = static_cast<int64_t>(text.size());
  if (bytes > most * kMaxBytesPerToken) {
    return absl::InvalidArgumentError(absl::StrCat("messages: a prompt of ", bytes,
                                                   " bytes; max_model_len is ", most,
                                                   " tokens; shorten the conversation"));
  }
  auto& ids = *request->generate.mutable_token_ids()->mutable_ids();
  for (const TokenId id :
       tokenizer.Encode(text, chat_template.needs_bos(), /*parse_special=*/true)) {
    ids.Add(static_cast<uint32_t>(id));
  }
  return absl::OkStatus();
}

absl::Status CompletionCall::SubmitLocked(const HttpRequest& http, const Caller& caller) {
  const ServiceContext& service = context_.service();
  SLUICE_ASSIGN_OR_RETURN(ApiRequest request, ParseApiRequest(kind_, http.body));
  SLUICE_RETURN_IF_ERROR(CheckModelName(request.model));
  request.generate.set_request_id(std::string(http.Header(kRequestIdHeader)));
  request.generate.mutable_scheduling()->set_tenant(std::string(http.Header(kTenantHeader)));
  if (kind_ == ApiKind::kChat) SLUICE_RETURN_IF_ERROR(RenderChat(&request));

  const uint64_t seed = context_.DrawSeed();
  SLUICE_ASSIGN_OR_RETURN(
      ParsedRequest parsed,
      CheckGenerateRequest(request.generate, context_.limits(), service.sampling_defaults,
                           service.tokenizer, {arrival_, seed, absl::StrFormat("r-%016x", seed)}));
  if (service.access != nullptr) {
    SLUICE_ASSIGN_OR_RETURN(permit_, service.access->Admit(caller, &parsed.samples));
  }
  request_id_ = parsed.request_id;
  streaming_ = request.stream;

  AnswerFacts facts;
  facts.kind = kind_;
  facts.id = absl::StrCat(kind_ == ApiKind::kChat ? "chatcmpl-" : "cmpl-", request_id_);
  facts.created = absl::ToUnixSeconds(absl::Now());
  facts.model = service.info.model();
  facts.fingerprint = absl::StrCat("fp_", service.info.fingerprint().substr(0, 12));
  facts.logprobs = request.generate.has_logprobs();
  facts.include_usage = request.include_usage;
  writer_.emplace(std::move(facts), service.tokenizer, parsed.samples.size());

  const std::weak_ptr<CompletionCall> weak = weak_from_this();
  samples_.reserve(parsed.samples.size());
  for (RequestSpec& spec : parsed.samples) {
    spec.id = context_.NextId();
    auto on_ready = [weak, pump = context_.pump()] {
      if (auto call = weak.lock()) pump->Enqueue(std::move(call));
    };
    const auto index = static_cast<uint32_t>(samples_.size());
    samples_.push_back({spec.id,
                        std::make_shared<TokenStream>(service.stream_capacity, std::move(on_ready)),
                        SampleOutput(index, service.tokenizer, parsed, *spec.sampling)});
  }
  for (size_t i = 0; i < samples_.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(
        service.engine.loop().Submit(std::move(parsed.samples[i]), samples_[i].stream));
  }
  return absl::OkStatus();
}

void CompletionCall::CancelSamplesLocked() {
  // Ids that were never submitted, or have ended, are ignored by the engine.
  for (const Sample& sample : samples_) {
    if (!sample.output.ended()) context_.service().engine.loop().Cancel(sample.id);
  }
}

void CompletionCall::EndLocked(const absl::Status& status) {
  if (std::exchange(ended_, true)) return;
  const ServiceContext& service = context_.service();
  ReportEndLocked(status.code());
  if (status.ok()) return;
  CancelSamplesLocked();
  if (absl::IsCancelled(status)) return exchange_->Abort();
  const ApiError error =
      ToApiError(status, RetryAfterOf(status).value_or(service.engine.loop().load().retry_after));
  if (!begun_) return exchange_->Respond(ErrorResponse(error));
  exchange_->Send(EventText(ErrorJson(error)));
  exchange_->End();
}

void CompletionCall::ReportEndLocked(absl::StatusCode code) const {
  const ServiceContext& service = context_.service();
  RequestEnd end;
  end.service = "OpenAI";
  end.request_id = request_id_;
  end.code = code;
  end.took = service.clock() - arrival_;
  service.metrics.OnRpc(end.service, MethodName(kind_), code, end.took);
  if (!service.on_request_end) return;
  if (const std::optional<TraceParent> trace = ParseTraceParent(trace_parent_)) {
    end.trace_id = trace->trace_id;
    end.parent_id = trace->parent_id;
  }
  service.on_request_end(end);
}

void CompletionCall::NoteProblemsLocked() {
  if (ended_) return;
  const Tokens limit = context_.service().stream_capacity;
  for (const Sample& sample : samples_) {
    absl::Status problem = sample.output.error();
    if (sending_ && sample.output.pending_tokens() > limit) {
      problem = absl::CancelledError("client reads too slowly");
    }
    if (!problem.ok()) return EndLocked(problem);
  }
}

Tokens CompletionCall::TakeEventsLocked(Sample& sample) {
  Tokens output;
  for (Event& event : sample.stream->TakeAll()) {
    sample.queued = sample.queued || event.predicted_ttft.has_value();
    if (event.token.has_value()) {
      output += Tokens(1);
      if (!std::exchange(sample.started, true)) permit_.Started();
    }
    const bool found_stop = sample.output.Apply(std::move(event));
    if (found_stop) context_.service().engine.loop().Cancel(sample.id);
  }
  sample.queued = sample.queued || sample.output.has_output() || sample.output.ended();
  return output;
}

void CompletionCall::OnReady() {
  std::lock_guard<std::mutex> lock(mu_);
  Tokens output;
  for (Sample& sample : samples_) output += TakeEventsLocked(sample);
  if (output > Tokens(0)) permit_.Charge(output, context_.service().clock());
  NoteProblemsLocked();
  AdvanceLocked();
}

void CompletionCall::OnWritable() {
  std::lock_guard<std::mutex> lock(mu_);
  sending_ = false;
  AdvanceLocked();
}

void CompletionCall::OnClosed() {
  std::lock_guard<std::mutex> lock(mu_);
  EndLocked(absl::CancelledError("the client went away"));
}

void CompletionCall::AdvanceLocked() {
  if (ended_) return;
  if (streaming_) {
    AdvanceStreamLocked();
  } else {
    AdvanceWholeLocked();
  }
}

HttpResponse CompletionCall::Head() const {
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = {{"Cache-Control", "no-cache"},
                  {"X-Accel-Buffering", "no"},  // nginx would collect the events
                  {"x-request-id", request_id_}};
  return head;
}

v1::Finished CompletionCall::FinishedLocked(Sample& sample) {
  sample.reported = true;
  ++reported_;
  return sample.output.MakeFinished(request_id_, context_.service().info.link_emulated());
}

void CompletionCall::AdvanceStreamLocked() {
  const auto queued = [](const Sample& sample) { return sample.queued; };
  if (sending_ || !std::all_of(samples_.begin(), samples_.end(), queued)) return;
  std::string events;
  if (!std::exchange(begun_, true)) {
    exchange_->Begin(Head());
    events = writer_->FirstEvents();
  }
  for (Sample& sample : samples_) {
    if (sample.output.has_output()) {
      const v1::Output output = sample.output.TakeOutput();
      const bool news = !output.text().empty() || output.logprobs_size() > 0;
      if (news) events += writer_->OutputEvent(output);
    }
    if (sample.output.ended() && !sample.reported) {
      events += writer_->FinishEvent(FinishedLocked(sample));
    }
  }
  const bool last = reported_ == samples_.size();
  if (last) events += writer_->LastEvents();
  if (events.empty()) return;
  sending_ = true;
  exchange_->Send(std::move(events));
  if (!last) return;
  exchange_->End();
  EndLocked(absl::OkStatus());
}

void CompletionCall::AdvanceWholeLocked() {
  for (Sample& sample : samples_) {
    if (sample.output.has_output()) writer_->Add(sample.output.TakeOutput());
    if (sample.output.ended() && !sample.reported) writer_->Add(FinishedLocked(sample));
  }
  if (reported_ < samples_.size()) return;
  HttpResponse response;
  response.headers = {{"x-request-id", request_id_}};
  response.body = writer_->Whole();
  exchange_->Respond(std::move(response));
  EndLocked(absl::OkStatus());
}

}  // namespace sluice
