#include "service/grpc/generate_call.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "grpc/grpc.h"
#include "scheduler/base/status_macros.h"
#include "service/grpc/wire.h"

namespace sluice {
namespace {

// Promised in inference.proto.
constexpr char kPredictedTtftKey[] = "sluice-predicted-ttft-ms";

ModelLimits LimitsOf(const v1::ServerInfo& info) {
  ModelLimits limits;
  limits.vocab_size = static_cast<int32_t>(info.vocab_size());
  limits.max_model_len = Tokens(info.max_model_len());
  limits.eos_ids.assign(info.eos_token_ids().begin(), info.eos_token_ids().end());
  return limits;
}

std::mt19937_64 SeededFromTheSystem() {
  std::random_device device;
  std::seed_seq seeds{device(), device(), device(), device()};
  return std::mt19937_64(seeds);
}

}  // namespace

GenerateShared::GenerateShared(const ServiceContext& context, std::shared_ptr<StreamPump> pump)
    : context_(context),
      limits_(LimitsOf(context.info)),
      pump_(std::move(pump)),
      seeds_(SeededFromTheSystem()) {}

uint64_t GenerateShared::DrawSeed() {
  std::lock_guard<std::mutex> lock(mu_);
  return seeds_();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateCall::Start(grpc::CallbackServerContext* rpc,
                                                                const grpc::ByteBuffer& request,
                                                                GenerateShared& shared) {
  const std::shared_ptr<GenerateCall> call(new GenerateCall(rpc, shared));
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

GenerateCall::GenerateCall(grpc::CallbackServerContext* rpc, GenerateShared& shared)
    : rpc_(rpc), shared_(shared), arrival_(shared.context().clock()) {}

absl::Status GenerateCall::SubmitLocked(const grpc::ByteBuffer& bytes) {
  const ServiceContext& context = shared_.context();
  v1::GenerateRequest request;
  SLUICE_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  const uint64_t seed = shared_.DrawSeed();
  SLUICE_ASSIGN_OR_RETURN(
      ParsedRequest parsed,
      CheckGenerateRequest(request, shared_.limits(), context.sampling_defaults, context.tokenizer,
                           {arrival_, seed, absl::StrFormat("r-%016x", seed)}));
  request_id_ = parsed.request_id;

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
  end_ = ToGrpcStatus(status, shared_.context().engine.loop().load().retry_after);
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

void GenerateCall::OnReady() {
  Action action = Action::kNone;
  {
    std::lock_guard<std::mutex> lock(mu_);
    for (Sample& sample : samples_) {
      for (Event& event : sample.stream->TakeAll()) {
        const bool first = &sample == &samples_.front();
        if (first && event.predicted_ttft.has_value()) NotePrediction(*event.predicted_ttft);
        const bool found_stop = sample.output.Apply(std::move(event));
        if (found_stop) shared_.context().engine.loop().Cancel(sample.id);
      }
    }
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

void GenerateCall::OnDone() {
  absl::StatusCode code = absl::StatusCode::kOk;
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (end_.has_value()) code = static_cast<absl::StatusCode>(end_->error_code());
  }
  const ServiceContext& context = shared_.context();
  context.metrics.OnRpc("Inference", "Generate", code, context.clock() - arrival_);
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
  std::optional<v1::GenerateResponse> message = NextMessageLocked();
  if (!message.has_value() && metadata_sent_) return Action::kNone;
  metadata_sent_ = true;
  if (!message.has_value()) {
    writing_ = true;
    return Action::kSendMetadata;
  }
  buffer_ = SerializeMessage(*message);
  writing_ = true;
  if (reported_ < samples_.size()) return Action::kWrite;
  closed_ = true;
  return Action::kWriteLast;
}

std::optional<v1::GenerateResponse> GenerateCall::NextMessageLocked() {
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
    next_sample_ = (next_sample_ + i + 1) % samples_.size();
    return message;
  }
  return std::nullopt;
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
      return StartWriteAndFinish(&buffer_, grpc::WriteOptions(), grpc::Status::OK);
    case Action::kFinish:
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
