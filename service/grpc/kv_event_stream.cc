#include "service/grpc/kv_event_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/grpc/kv_event_messages.h"
#include "service/grpc/wire.h"

namespace sluice {

// ---- All streams -----------------------------------------------------------------------------

absl::Status KvEventStreams::Add(const std::shared_ptr<KvEventStream>& stream) {
  if (streams_.Add(stream)) return absl::OkStatus();
  return absl::UnavailableError("the server is shutting down");
}

void KvEventStreams::Shutdown() {
  for (const auto& stream : streams_.Close()) {
    stream->End(absl::UnavailableError("the server is shutting down"));
  }
}

// ---- One stream ------------------------------------------------------------------------------

grpc::ServerWriteReactor<grpc::ByteBuffer>* KvEventStream::Start(const grpc::ByteBuffer& request,
                                                                 const ServiceContext& context,
                                                                 std::shared_ptr<StreamPump> pump,
                                                                 KvEventStreams& streams) {
  const std::shared_ptr<KvEventStream> stream(new KvEventStream(context, std::move(pump), streams));
  context.metrics.OnKvSubscribed();
  absl::Status subscribed = streams.Add(stream);
  if (subscribed.ok()) subscribed = stream->Subscribe(request);
  if (subscribed.ok()) {
    stream->Advance();
  } else {
    stream->End(subscribed);
  }
  return stream.get();
}

KvEventStream::KvEventStream(const ServiceContext& context, std::shared_ptr<StreamPump> pump,
                             KvEventStreams& streams)
    : context_(context),
      loop_(context.engine.loop()),
      start_(context.clock()),
      pump_(std::move(pump)),
      streams_(streams) {}

absl::Status KvEventStream::Subscribe(const grpc::ByteBuffer& bytes) {
  smg::grpc::common::SubscribeKvEventsRequest request;
  SLUICE_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  KvEventLog* const log = loop_.kv_events();
  if (log == nullptr) {
    return absl::UnimplementedError(
        "this server tells nothing about its KV blocks (--kv-events and prefix caching are both "
        "needed)");
  }
  const std::weak_ptr<KvEventStream> weak = weak_from_this();
  {
    std::lock_guard<std::mutex> lock(mu_);
    sent_ = request.start_sequence_number();
    awaits_snapshot_ = sent_ == 0;
    // Before looking at the log: nothing is missed.
    listener_ = log->Listen([weak, pump = pump_] {
      if (auto stream = weak.lock()) pump->Enqueue(std::move(stream));
    });
  }
  if (request.start_sequence_number() > 0) {
    return log->CheckResume(request.start_sequence_number());
  }
  return loop_.AskForKvBlocks([weak](absl::StatusOr<std::shared_ptr<const KvSnapshot>> snapshot) {
    if (const auto stream = weak.lock()) stream->TakeSnapshot(std::move(snapshot));
  });
}

void KvEventStream::TakeSnapshot(absl::StatusOr<std::shared_ptr<const KvSnapshot>> snapshot) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    awaits_snapshot_ = false;
    if (snapshot.ok()) {
      sent_ = (*snapshot)->first_sequence - 1;
      snapshot_ = *std::move(snapshot);
    } else if (!end_.has_value()) {
      end_ = ToGrpcStatus(snapshot.status());
    }
  }
  pump_->Enqueue(shared_from_this());
}

void KvEventStream::End(const absl::Status& status) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (!end_.has_value()) end_ = ToGrpcStatus(status);
  }
  Advance();
}

void KvEventStream::OnReady() { Advance(); }

void KvEventStream::OnSendInitialMetadataDone(bool ok) { OnWriteDone(ok); }

void KvEventStream::OnWriteDone(bool ok) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    writing_ = false;
  }
  if (!ok) return End(absl::CancelledError("the client went away"));
  Advance();
}

void KvEventStream::OnCancel() { End(absl::CancelledError("the client cancelled")); }

void KvEventStream::OnDone() {
  std::optional<int64_t> listener;
  auto code = absl::StatusCode::kCancelled;
  {
    std::lock_guard<std::mutex> lock(mu_);
    listener = listener_;
    if (end_.has_value()) code = static_cast<absl::StatusCode>(end_->error_code());
  }
  context_.metrics.OnKvUnsubscribed(code);
  context_.metrics.OnRpc("VllmEngine", "SubscribeKvEvents", code, context_.clock() - start_);
  if (listener.has_value()) loop_.kv_events()->Forget(*listener);
  streams_.Remove(this);  // may delete this
}

void KvEventStream::Advance() {
  Action action = Action::kNone;
  {
    std::lock_guard<std::mutex> lock(mu_);
    action = NextLocked();
  }
  switch (action) {
    case Action::kNone:
      return;
    case Action::kSendMetadata:
      return StartSendInitialMetadata();
    case Action::kWrite:
      return StartWrite(&buffer_);
    case Action::kFinish:
      return Finish(*end_);
  }
}

KvEventStream::Action KvEventStream::NextLocked() {
  if (writing_ || closed_) return Action::kNone;
  if (!end_.has_value() && !metadata_sent_) {
    metadata_sent_ = writing_ = true;
    return Action::kSendMetadata;
  }
  if (!end_.has_value() && NextMessageLocked()) {
    writing_ = true;
    return Action::kWrite;
  }
  if (!end_.has_value()) return Action::kNone;
  closed_ = true;
  return Action::kFinish;
}

// Fills buffer_. False: there is nothing to send, or end_ says why there never will be.
bool KvEventStream::NextMessageLocked() {
  if (awaits_snapshot_) return false;
  KvEventLog& log = *loop_.kv_events();
  if (snapshot_ != nullptr && next_batch_ < snapshot_->batches) {
    if (next_batch_ == 0) order_ = ParentsFirst(snapshot_->blocks);
    const size_t limit = log.batch_limit();
    buffer_ = SerializeMessage(MakeSnapshotBatch(*snapshot_, order_, next_batch_, limit));
    sent_ = snapshot_->first_sequence + next_batch_;
    ++next_batch_;
    return true;
  }
  snapshot_.reset();
  order_ = {};
  const absl::StatusOr<KvEventLog::Batches> batches = log.Read(sent_, 1);
  if (!batches.ok()) {
    end_ = ToGrpcStatus(batches.status());
    return false;
  }
  if (batches->empty()) return false;
  sent_ = batches->front()->sequence;
  buffer_ = SerializeMessage(MakeKvEventBatch(*batches->front()));
  return true;
}

}  // namespace sluice
