#include "service/grpc/orca_service.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/grpc/access_check.h"
#include "service/grpc/wire.h"

namespace sluice {
namespace {

constexpr absl::Duration kDefaultInterval = absl::Seconds(10);

// The interval asked for, within bounds. Returns INVALID_ARGUMENT if it is negative.
absl::StatusOr<absl::Duration> IntervalOf(
    const xds::service::orca::v3::OrcaLoadReportRequest& request) {
  if (!request.has_report_interval()) return kDefaultInterval;
  const auto& asked = request.report_interval();
  if (asked.seconds() < 0 || asked.nanos() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "report_interval: ", asked.seconds(), " s ", asked.nanos(),
        " ns is negative; leave it unset for ", absl::FormatDuration(kDefaultInterval)));
  }
  const absl::Duration interval = absl::Seconds(asked.seconds()) + absl::Nanoseconds(asked.nanos());
  if (interval == absl::ZeroDuration()) return kDefaultInterval;
  return std::max(interval, LoadMonitor::kPeriod);
}

}  // namespace

// One StreamCoreMetrics rpc. No gRPC operation runs under a lock.
class OrcaService::Stream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  Stream(OrcaService& service, absl::Duration interval) : service_(service), interval_(interval) {}

  // Sends a report if it is time and the last one has left.
  void Offer(absl::Time now) {
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (writing_ || closed_ || now < next_) return;
      next_ = now + interval_;
      const std::string report = service_.monitor_.OrcaBytes();
      const grpc::Slice slice(report);
      buffer_ = grpc::ByteBuffer(&slice, 1);
      writing_ = true;
    }
    StartWrite(&buffer_);
  }

  void End(grpc::Status status) {
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (closed_) return;
      if (!end_.has_value()) end_ = std::move(status);
      if (writing_) return;
      closed_ = true;
    }
    Finish(*end_);
  }

  void OnWriteDone(bool ok) override {
    std::optional<grpc::Status> end;
    {
      std::lock_guard<std::mutex> lock(mu_);
      writing_ = false;
      if (!ok && !end_.has_value()) end_ = grpc::Status::CANCELLED;
      end = end_;
    }
    if (end.has_value()) End(*end);
  }

  void OnCancel() override { End(grpc::Status::CANCELLED); }
  void OnDone() override { service_.streams_.Remove(this); }  // may delete this

 private:
  OrcaService& service_;
  const absl::Duration interval_;

  std::mutex mu_;
  absl::Time next_ = absl::InfinitePast();  // guarded by mu_
  std::optional<grpc::Status> end_;         // guarded by mu_; constant once set
  bool writing_ = false;                    // guarded by mu_; `buffer_` belongs to gRPC
  bool closed_ = false;                     // guarded by mu_; Finish() was called
  grpc::ByteBuffer buffer_;
};

OrcaService::OrcaService(const ServiceContext& context, LoadMonitor& monitor)
    : context_(context), monitor_(monitor) {
  monitor_.Listen([this] { Tick(); });
}

OrcaService::~OrcaService() { monitor_.Stop(); }

void OrcaService::Tick() {
  const absl::Time now = context_.clock();
  for (const auto& stream : streams_.All()) stream->Offer(now);
}

void OrcaService::Shutdown() {
  for (const auto& stream : streams_.Close()) {
    stream->End({grpc::StatusCode::UNAVAILABLE, "the server is shutting down"});
  }
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* OrcaService::StreamCoreMetrics(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* bytes) {
  xds::service::orca::v3::OrcaLoadReportRequest request;
  absl::Status status = CheckCaller(context_, *rpc, "StreamCoreMetrics", Need::kToken);
  if (status.ok()) status = ParseMessage(*bytes, &request);
  const absl::StatusOr<absl::Duration> interval = IntervalOf(request);
  if (status.ok()) status = interval.status();
  const auto stream = std::make_shared<Stream>(*this, interval.value_or(kDefaultInterval));
  if (!streams_.Add(stream)) status = absl::UnavailableError("the server is shutting down");
  if (status.ok()) {
    stream->Offer(context_.clock());
  } else {
    stream->End(ToGrpcStatus(status));
  }
  return stream.get();
}

}  // namespace sluice
