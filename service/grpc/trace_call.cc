#include "service/grpc/trace_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/grpc/wire.h"

namespace sluice {
namespace {

constexpr size_t kChunkBytes = 256 << 10;

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* TraceCall::Start(const ServiceContext& context,
                                                             const grpc::ByteBuffer& request,
                                                             std::atomic<int>& running) {
  auto* const call = new TraceCall(context, running);  // deletes itself in OnDone()
  const absl::Status begun = call->Begin(request);
  if (begun.ok()) {
    call->Advance();
  } else {
    call->End(begun);
  }
  return call;
}

TraceCall::TraceCall(const ServiceContext& context, std::atomic<int>& running)
    : context_(context), running_(running), start_(context.clock()) {
  ++running_;
}

absl::Status TraceCall::Begin(const grpc::ByteBuffer& bytes) {
  v1::TraceRequest request;
  SLUICE_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  if (!(request.seconds() >= 0)) {  // NaN too
    return absl::InvalidArgumentError(absl::StrCat("seconds: ", request.seconds(),
                                                   " is not at least 0; 0 sends all that is kept"));
  }
  if (context_.trace == nullptr) {
    return absl::UnavailableError(
        "the server keeps no trace; start it with --trace-events above 0");
  }
  if (running_.load() > kMostAtOnce) {
    return absl::ResourceExhaustedError(absl::StrCat("the server is sending ", kMostAtOnce,
                                                     " traces already (limit ", kMostAtOnce,
                                                     "); try again when they are done"));
  }
  const absl::Time since =
      request.seconds() > 0 ? start_ - absl::Seconds(request.seconds()) : absl::InfinitePast();
  events_ = context_.trace->Snapshot(since, start_);
  absl::Time origin = start_;
  for (const TraceEvent& event : events_) origin = std::min(origin, event.start);
  text_ = std::make_unique<TraceText>(
      origin, absl::StrCat(context_.info.backend(), ", ", context_.info.device()),
      context_.engine.loop().backend_info().storage_place);
  pending_ = text_->Header();
  return absl::OkStatus();
}

void TraceCall::Advance() {
  while (pending_.size() < kChunkBytes && next_ < events_.size()) {
    text_->Append(events_[next_++], &pending_);
  }
  if (next_ == events_.size() && !footer_sent_) {
    pending_ += text_->Footer();
    footer_sent_ = true;
  }
  v1::TraceChunk chunk;
  chunk.set_json(std::exchange(pending_, {}));
  buffer_ = SerializeMessage(chunk);
  StartWrite(&buffer_);
}

void TraceCall::OnWriteDone(bool ok) {
  if (!ok) return End(absl::CancelledError("the client cancelled"));
  if (footer_sent_) return End(absl::OkStatus());
  Advance();
}

void TraceCall::End(const absl::Status& status) {
  code_ = status.code();
  Finish(ToGrpcStatus(status));
}

void TraceCall::OnDone() {
  context_.metrics.OnRpc("Control", "Trace", code_, context_.clock() - start_);
  --running_;
  delete this;
}

}  // namespace sluice
