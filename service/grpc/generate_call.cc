#include "service/grpc/generate_call.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "grpc/grpc.h"
#include "scheduler/base/status_macros.h"
#include "service/access/retry_after.h"
#include "service/grpc/access_check.h"
#include "service/grpc/request_seeds.h"
#include "service/grpc/trace_parent.h"
#include "service/grpc/wire.h"

namespace sluice {
namespace {

// Promised in inference.proto.
constexpr char kPredictedTtftKey[] = "sluice-predicted-ttft-ms";
// Where gRPC's own balancers look.
constexpr char kLoadKey[] = "endpoint-load-metrics-bin";
constexpr char kTraceKey[] = "traceparent";

}  // namespace

GenerateShared::GenerateShared(const ServiceContext& context, LoadMonitor& monitor,
                               std::shared_ptr<StreamPump> pump)
    : context_(context),
      monitor_(monitor),
      limits_(LimitsOf(context.info)),
      pump_(std::move(pump)),
      seeds_(SeededFromTheSystem()) {}

uint64_t GenerateShared::DrawSeed() {
  std::lock_guard<std::mutex> lock(mu_);
  return seeds_();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateCall::Start(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer& request, GenerateShared& shared,
    std::unique_ptr<GenerateDialect> dialect) {
  const std::shared_ptr<GenerateCall> call(new GenerateCall(rpc, shared, std::move(dialect)));
  call->self_ = call;
  Action action = Action::kNone;
  {
    std::lock_guard<std::mutex> lock(call->mu_);
    if (absl::Status submitted = call->SubmitLocked(request); !submitted.ok()) {
      call->EndLocked(submitted);
      action = call->NextLocked();
    }
  }
  call->Perform(action);
  return call.get();
}

GenerateCall::GenerateCall(grpc::CallbackServerContext* rpc, GenerateShared& shared,
                           std::unique_ptr<GenerateDialect> dialect)
    : rpc_(rpc),
      shared_(shared),
      arrival_(shared.context().clock()),
      dialect_(std::move(dialect)) {}

absl::Status GenerateCall::SubmitLocked(const grpc::ByteBuffer& bytes) {
  const ServiceContext& context = shared_.context();
  SLUICE_ASSIGN_OR_RETURN(const Caller caller, CallerOf(context, *rpc_));
  SLUICE_ASSIGN_OR_RETURN(const v1::GenerateRequest request,
                          dialect_->Read(bytes, weak_from_this()));
  const uint64_t seed = shared_.DrawSeed();
  SLUICE_ASSIGN_OR_RETURN(
      ParsedRequest parsed,
      CheckGenerateRequest(request, shared_.limits(), context.sampling_defaults, context.tokenizer,
                           {arrival_, seed, absl::StrFormat("r-%016x", seed)}));
  request_id_ = parsed.request_id;
  if (context.access != nullptr) {
    SLUICE_ASSIGN_OR_RETURN(permit_, context.access->Admit(caller, &parsed.samples));
  }

  const std::weak_ptr<GenerateCall> weak = weak_from_this();
  samples_.reserve(parsed.samples.size());
  for (RequestSpec& spec : parsed.samples) {
    spec.id = shared_.NextId();
    auto on_ready = [weak, pump = shared_.pump()] {
      if (auto call = weak.lock()) pump->Enqueue(std::move(call));
    };
    const auto index = static_cast<uint32_t>(samples_.size());
    samples_.push_back({spec.id,
                        std::make_shared<TokenStream>(context.stream_capacity, std::move(on_ready)),
                        SampleOutput(index, context.tokenizer, parsed, *spec.sampling)});
  }
  for (size_t i = 0; i < samples_.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(
        context.engine.loop().Submit(std::move(parsed.samples[i]), samples_[i].stream));
  }
  return absl::OkStatus();
}

void GenerateCall::CancelSamplesLocked() {
  // Ids that were never submitted, or have ended, are ignored by the engine.
  for (const Sample& sample : samples_) {
    if (!sample.output.ended()) shared_.context().engine.loop().Cancel(sample.id);
  }
}

void GenerateCall::EndLocked(const absl::Status& status) {
  if (end_.has_value()) return;
  end_ = ToGrpcStatus(
      status, RetryAfterOf(status).value_or(shared_.context().engine.loop().load().retry_after));
  CancelSamplesLocked();
}

void GenerateCall::NoteProblemsLocked() {
  if (end_.has_value()) return;
  const Tokens limit = shared_.context().stream_capacity;
  for (const Sample& sample : samples_) {
    absl::Status problem = sample.output.error();
    if (writing_ && sample.output.pending_tokens() > limit) {
      problem = absl::CancelledError(
          absl::StrCat("client read too slowly: ", sample.output.pending_tokens().value(),
                       " tokens unread (limit ", limit.value(), "); read faster or ask for fewer"));
    }
    if (problem.ok()) continue;
    // The engine, too, cancels nobody but slow readers.
    abort_wanted_ = absl::IsCancelled(problem);
    return EndLocked(problem);
  }
}

void GenerateCall::TakeEventsLocked() {
  Tokens output;
  for (Sample& sample : samples_) {
    for (Event& event : sample.stream->TakeAll()) {
      const bool first = &sample == &samples_.front();
      if (first && event.predicted_ttft.has_value()) NotePrediction(*event.predicted_ttft);
      if (event.token.has_value()) {
        output += Tokens(1);
        if (!std::exchange(sample.started, true)) permit_.Started();
      }
      const bool found_stop = sample.output.Apply(std::move(event));
      if (found_stop) shared_.context().engine.loop().Cancel(sample.id);
    }
  }
  if (output > Tokens(0)) permit_.Charge(output, shared_.context().clock());
}

void GenerateCall::OnReady() {
  Action action = Action::kNone;
  {
    std::lock_guard<std::mutex> lock(mu_);
    TakeEventsLocked();
    NoteProblemsLocked();
    action = NextLocked();
  }
  Perform(action);
}

// gRPC may still be reading the map if it has begun to send; until then it is ours.
void GenerateCall::NotePrediction(absl::Duration ttft) {
  predicted_ = true;
  if (metadata_sent_ || closed_ || ttft == absl::InfiniteDuration()) return;
  rpc_->AddInitialMetadata(kPredictedTtftKey,
                           absl::StrFormat("%.3f", absl::ToDoubleMilliseconds(ttft)));
}

void GenerateCall::OnSendInitialMetadataDone(bool ok) { OnWriteDone(ok); }

void GenerateCall::OnWriteDone(bool ok) {
  Action action = Action::kNone;
  {
    std::lock_guard<std::mutex> lock(mu_);
    writing_ = false;
    if (!ok) EndLocked(absl::CancelledError("the client went away"));
    action = NextLocked();
  }
  Perform(action);
}

void GenerateCall::OnCancel() {
  Action action = Action::kNone;
  {
    std::lock_guard<std::mutex> lock(mu_);
    const bool late = std::chrono::system_clock::now() >= rpc_->deadline();
    EndLocked(late ? absl::DeadlineExceededError("the rpc deadline has passed")
                   : absl::CancelledError("the client cancelled"));
    action = NextLocked();
  }
  Perform(action);
}

void GenerateCall::Abort() {
  Action action = Action::kNone;
  {
    std::lock_guard<std::mutex> lock(mu_);
    for (Sample& sample : samples_) sample.output.Abort();
    CancelSamplesLocked();
    action = NextLocked();
  }
  Perform(action);
}

void GenerateCall::OnDone() {
  RequestEnd end;
  end.service = dialect_->service();
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (end_.has_value()) end.code = static_cast<absl::StatusCode>(end_->error_code());
    end.request_id = request_id_;
  }
  const ServiceContext& context = shared_.context();
  end.took = context.clock() - arrival_;
  context.metrics.OnRpc(end.service, "Generate", end.code, end.took);
  shared_.monitor().NoteEnd(end.code);
  if (context.on_request_end) {
    const auto header = rpc_->client_metadata().find(kTraceKey);
    if (header != rpc_->client_metadata().end()) {
      const std::optional<TraceParent> trace =
          ParseTraceParent({header->second.data(), header->second.size()});
      if (trace.has_value()) {
        end.trace_id = trace->trace_id;
        end.parent_id = trace->parent_id;
      }
    }
    context.on_request_end(end);
  }
  self_.reset();  // may delete this
}

GenerateCall::Action GenerateCall::NextLocked() {
  if (closed_ || aborting_) return Action::kNone;
  if (writing_) {
    if (!abort_wanted_) return Action::kNone;
    // A write that does not end cannot be followed by a status: the call must be broken off.
    abort_wanted_ = false;
    aborting_ = true;
    return Action::kAbort;
  }
  if (end_.has_value()) {
    closed_ = true;
    return Action::kFinish;
  }
  // Sample 0 may be a turn of the engine behind the others.
  if (!predicted_ && !samples_.front().output.ended()) return Action::kNone;
  std::optional<grpc::ByteBuffer> message = NextMessageLocked();
  if (!message.has_value() && metadata_sent_) return Action::kNone;
  metadata_sent_ = true;
  if (!message.has_value()) {
    writing_ = true;
    return Action::kSendMetadata;
  }
  buffer_ = *std::move(message);
  writing_ = true;
  if (reported_ < samples_.size()) return Action::kWrite;
  closed_ = true;
  return Action::kWriteLast;
}

std::optional<grpc::ByteBuffer> GenerateCall::NextMessageLocked() {
  SampleFacts facts;
  while (const std::optional<v1::GenerateResponse> news = NextNewsLocked(&facts)) {
    std::optional<grpc::ByteBuffer> message = dialect_->Write(*news, facts);
    if (message.has_value()) return message;
  }
  return std::nullopt;
}

std::optional<v1::GenerateResponse> GenerateCall::NextNewsLocked(SampleFacts* facts) {
  v1::GenerateResponse message;
  for (size_t i = 0; i < samples_.size(); ++i) {
    Sample& sample = samples_[(next_sample_ + i) % samples_.size()];
    if (sample.output.has_output()) {
      *message.mutable_output() = sample.output.TakeOutput();
    } else if (sample.output.ended() && !sample.reported) {
      sample.reported = true;
      ++reported_;
      *message.mutable_finished() =
          sample.output.MakeFinished(request_id_, shared_.context().info.link_emulated());
    } else {
      continue;
    }
    *facts = sample.output.facts();
    next_sample_ = (next_sample_ + i + 1) % samples_.size();
    return message;
  }
  return std::nullopt;
}

void GenerateCall::AddLoadTrailer() {
  rpc_->AddTrailingMetadata(kLoadKey, shared_.monitor().OrcaBytes());
}

// Nothing of this call may be touched after an operation that can end it.
void GenerateCall::Perform(Action action) {
  switch (action) {
    case Action::kNone:
      return;
    case Action::kSendMetadata:
      return StartSendInitialMetadata();
    case Action::kWrite:
      return StartWrite(&buffer_);
    case Action::kWriteLast:
      AddLoadTrailer();
      return StartWriteAndFinish(&buffer_, grpc::WriteOptions(), grpc::Status::OK);
    case Action::kFinish:
      AddLoadTrailer();
      return Finish(*end_);
    case Action::kAbort:
      // Unlike Finish(), which waits behind the stuck write, and TryCancel(), which gives no
      // reason. `aborting_` keeps the call alive until here.
      grpc_call_cancel_with_status(rpc_->c_call(), GRPC_STATUS_CANCELLED,
                                   end_->error_message().c_str(), nullptr);
      Action next = Action::kNone;
      {
        std::lock_guard<std::mutex> lock(mu_);
        aborting_ = false;
        next = NextLocked();
      }
      return Perform(next);
  }
}

}  // namespace sluice
