#include "service/grpc/control_service.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/grpc/activity_report.h"
#include "service/grpc/evict_call.h"
#include "service/grpc/trace_call.h"
#include "service/grpc/unary.h"
#include "service/grpc/warm_call.h"
#include "service/grpc/wire.h"

namespace sluice {
namespace {

constexpr absl::Duration kWindow = absl::Seconds(1);
constexpr absl::Duration kSampleEvery = absl::Milliseconds(250);
// How soon a drain notices its own timeout, a cancelled client or a shutdown.
constexpr absl::Duration kDrainSlice = absl::Milliseconds(50);

}  // namespace

// One Drain rpc: waits in `drains_` until End(). gRPC and the service share it.
class ControlService::DrainCall final : public grpc::ServerUnaryReactor {
 public:
  DrainCall(const ServiceContext& context, grpc::ByteBuffer* response)
      : context_(context), response_(response), start_(context.clock()) {}

  // Keeps the call alive until OnDone().
  void Hold(std::shared_ptr<DrainCall> self) { self_ = std::move(self); }
  void set_deadline(absl::Time deadline) { deadline_ = deadline; }
  absl::Time deadline() const { return deadline_; }

  void Answer(const v1::DrainResponse& response) { End(absl::OkStatus(), &response); }
  void Fail(const absl::Status& status) { End(status, nullptr); }

  // A cancelled drain stops waiting; the server goes on draining.
  void OnCancel() override { Fail(absl::CancelledError("the client cancelled")); }
  void OnDone() override {
    context_.metrics.OnRpc("Control", "Drain", code_, context_.clock() - start_);
    self_.reset();  // may delete this
  }

  bool ended() {
    std::lock_guard<std::mutex> lock(mu_);
    return ended_;
  }

 private:
  // The first end wins. `response_` belongs to gRPC, which keeps it until Finish().
  void End(const absl::Status& status, const v1::DrainResponse* response) {
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (ended_) return;
      ended_ = true;
      code_ = status.code();
    }
    if (response != nullptr) *response_ = SerializeMessage(*response);
    Finish(ToGrpcStatus(status));
  }

  const ServiceContext& context_;
  grpc::ByteBuffer* const response_;
  const absl::Time start_;
  absl::Time deadline_ = absl::InfiniteFuture();
  std::shared_ptr<DrainCall> self_;

  std::mutex mu_;
  bool ended_ = false;                             // guarded by mu_
  absl::StatusCode code_ = absl::StatusCode::kOk;  // set before Finish()
};

ControlService::ControlService(const ServiceContext& context, HealthService& health,
                               GenerateShared& shared)
    : context_(context),
      health_(health),
      shared_(shared),
      start_(context.clock()),
      window_(kWindow),
      thread_([this] { ThreadMain(); }) {}

ControlService::~ControlService() { Shutdown(); }

void ControlService::BeginDrain() {
  health_.SetNotReady();
  context_.engine.loop().StartDrain();
}

void ControlService::Shutdown() {
  std::vector<std::shared_ptr<DrainCall>> drains;
  {
    std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
    drains.swap(drains_);
    changed_.notify_all();
  }
  for (const auto& drain : drains) {
    drain->Fail(absl::UnavailableError("the server is shutting down"));
  }
  if (thread_.joinable()) thread_.join();
}

grpc::ServerUnaryReactor* ControlService::GetServerInfo(grpc::CallbackServerContext* rpc,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetServerInfoRequest, v1::ServerInfo>(
      context_, rpc, "Control", "GetServerInfo", request, response,
      [this](const v1::GetServerInfoRequest&, v1::ServerInfo* info) {
        *info = context_.info;
        info->set_uptime_s(absl::ToDoubleSeconds(context_.clock() - start_));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ControlService::GetLoad(grpc::CallbackServerContext* rpc,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetLoadRequest, v1::Load>(
      context_, rpc, "Control", "GetLoad", request, response,
      [this](const v1::GetLoadRequest&, v1::Load* load) {
        *load = MakeLoad();
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ControlService::GetActivity(grpc::CallbackServerContext* rpc,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetActivityRequest, v1::Activity>(
      context_, rpc, "Control", "GetActivity", request, response,
      [this](const v1::GetActivityRequest&, v1::Activity* activity) {
        *activity = MakeActivity(context_);
        return absl::OkStatus();
      },
      Need::kAdmin);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ControlService::Trace(grpc::CallbackServerContext* rpc,
                                                                  const grpc::ByteBuffer* request) {
  const absl::Status allowed = CheckCaller(context_, *rpc, "Trace", Need::kAdmin);
  if (!allowed.ok()) return RefuseStream(allowed);
  return TraceCall::Start(context_, *request, traces_);
}

grpc::ServerUnaryReactor* ControlService::Warm(grpc::CallbackServerContext* rpc,
                                               const grpc::ByteBuffer* request,
                                               grpc::ByteBuffer* response) {
  return WarmCall::Start(*rpc, *request, response, shared_);
}

grpc::ServerUnaryReactor* ControlService::Evict(grpc::CallbackServerContext* rpc,
                                                const grpc::ByteBuffer* request,
                                                grpc::ByteBuffer* response) {
  return EvictCall::Start(*rpc, *request, response, shared_);
}

grpc::ServerUnaryReactor* ControlService::CacheStats(grpc::CallbackServerContext* rpc,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return AnswerUnary<v1::CacheStatsRequest, v1::CacheStatsResponse>(
      context_, rpc, "Control", "CacheStats", request, response,
      [this](const v1::CacheStatsRequest&, v1::CacheStatsResponse* stats) {
        *stats = MakeCacheStats(context_);
        return absl::OkStatus();
      },
      Need::kAdmin);
}

grpc::ServerUnaryReactor* ControlService::Drain(grpc::CallbackServerContext* rpc,
                                                const grpc::ByteBuffer* bytes,
                                                grpc::ByteBuffer* response) {
  const auto call = std::make_shared<DrainCall>(context_, response);
  call->Hold(call);
  v1::DrainRequest request;
  absl::Status status = CheckCaller(context_, *rpc, "Drain", Need::kAdmin);
  if (status.ok()) status = ParseMessage(*bytes, &request);
  if (status.ok() && !(request.timeout_s() >= 0)) {  // NaN too
    status = absl::InvalidArgumentError(absl::StrCat(
        "timeout_s: ", request.timeout_s(), " is not at least 0; 0 waits as long as it takes"));
  }
  if (status.ok()) {
    BeginDrain();
    if (request.timeout_s() > 0) {
      call->set_deadline(context_.clock() + absl::Seconds(request.timeout_s()));
    }
    std::lock_guard<std::mutex> lock(mu_);
    if (!stopping_) {
      drains_.push_back(call);
      changed_.notify_all();
      return call.get();
    }
    status = absl::UnavailableError("the server is shutting down");
  }
  call->Fail(status);
  return call.get();
}

v1::Load ControlService::MakeLoad() {
  const EngineLoad now = context_.engine.loop().load();
  LoadRates rates;
  {
    std::lock_guard<std::mutex> lock(mu_);
    window_.Add(now.activity, now.scheduler.output_tokens);
    rates = window_.Rates();
  }
  v1::Load load;
  load.set_draining(now.draining);
  load.set_waiting(static_cast<uint32_t>(now.scheduler.waiting));
  load.set_running(static_cast<uint32_t>(now.scheduler.running));
  load.set_loading(static_cast<uint32_t>(now.scheduler.loading));
  *load.mutable_device() = MakeTierLoad(now.scheduler.device);
  *load.mutable_host() = MakeTierLoad(now.scheduler.host);
  load.set_reserved_blocks(static_cast<uint64_t>(now.scheduler.reserved.value()));
  load.set_device_busy(rates.device_busy);
  load.set_link_to_device_busy(rates.link_to_device_busy);
  load.set_link_to_host_busy(rates.link_to_host_busy);
  load.set_output_tokens_per_s(rates.output_tokens_per_s);
  return load;
}

void ControlService::SettleDrains(bool idle) {
  const absl::Time now = context_.clock();
  std::vector<std::shared_ptr<DrainCall>> over;
  {
    std::lock_guard<std::mutex> lock(mu_);
    const auto waits = [&](const std::shared_ptr<DrainCall>& call) {
      return !idle && now < call->deadline() && !call->ended();
    };
    const auto split = std::stable_partition(drains_.begin(), drains_.end(), waits);
    over.assign(split, drains_.end());
    drains_.erase(split, drains_.end());
  }
  if (over.empty()) return;
  const SchedulerStats stats = context_.engine.loop().load().scheduler;
  v1::DrainResponse response;
  response.set_drained(idle);
  response.set_remaining(idle ? 0 : static_cast<uint32_t>(stats.waiting + stats.running));
  for (const auto& call : over) call->Answer(response);
}

void ControlService::ThreadMain() {
  for (;;) {
    bool draining = false;
    {
      std::unique_lock<std::mutex> lock(mu_);
      if (drains_.empty()) {
        changed_.wait_for(lock, absl::ToChronoNanoseconds(kSampleEvery),
                          [this] { return stopping_ || !drains_.empty(); });
      }
      if (stopping_) return;
      draining = !drains_.empty();
    }
    if (draining) SettleDrains(context_.engine.Drain(kDrainSlice));
    const EngineLoad now = context_.engine.loop().load();
    std::lock_guard<std::mutex> lock(mu_);
    window_.Add(now.activity, now.scheduler.output_tokens);
  }
}

}  // namespace sluice
