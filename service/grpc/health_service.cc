#include "service/grpc/health_service.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "service/grpc/unary.h"
#include "service/grpc/wire.h"

namespace sluice {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// One Watch rpc. Sends the newest status; those between two writes are skipped, as the protocol
// allows. No gRPC operation runs under a lock.
class HealthService::Watcher final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  Watcher(HealthService& health, std::string service)
      : health_(health), service_(std::move(service)) {}

  const std::string& service() const { return service_; }

  void Set(ServingStatus status) {
    {
      std::lock_guard<std::mutex> lock(mu_);
      wanted_ = status;
    }
    Advance();
  }

  void End(grpc::Status status) {
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (!end_.has_value()) end_ = std::move(status);
    }
    Advance();
  }

  void OnWriteDone(bool ok) override {
    {
      std::lock_guard<std::mutex> lock(mu_);
      writing_ = false;
    }
    if (!ok) return End(grpc::Status::CANCELLED);
    Advance();
  }

  void OnCancel() override { End(grpc::Status::CANCELLED); }

  void OnDone() override { health_.Remove(this); }  // may delete this

 private:
  // Writes or finishes, if there is something to say and nothing is being said.
  void Advance() {
    std::optional<grpc::Status> finish;
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (writing_ || closed_) return;
      if (end_.has_value()) {
        closed_ = true;
        finish = end_;
      } else if (wanted_ == sent_) {
        return;
      } else {
        HealthCheckResponse response;
        response.set_status(*wanted_);
        buffer_ = SerializeMessage(response);
        sent_ = wanted_;
        writing_ = true;
      }
    }
    if (finish.has_value()) return Finish(*finish);
    StartWrite(&buffer_);
  }

  HealthService& health_;
  const std::string service_;

  std::mutex mu_;
  std::optional<ServingStatus> wanted_;  // guarded by mu_
  std::optional<ServingStatus> sent_;    // guarded by mu_
  std::optional<grpc::Status> end_;      // guarded by mu_
  bool writing_ = false;                 // guarded by mu_; `buffer_` belongs to gRPC
  bool closed_ = false;                  // guarded by mu_; Finish() was called
  grpc::ByteBuffer buffer_;
};

HealthService::HealthService(const ServiceContext& context) : context_(context) {}
HealthService::~HealthService() = default;

bool HealthService::ready() const {
  std::lock_guard<std::mutex> lock(mu_);
  return ready_;
}

HealthService::ServingStatus HealthService::StatusOf(const std::string& service) const {
  if (service.empty() || service == "sluice.v1.Control") return HealthCheckResponse::SERVING;
  if (service != "sluice.v1.Inference" && service != "vllm.grpc.engine.VllmEngine") {
    return HealthCheckResponse::SERVICE_UNKNOWN;
  }
  return ready() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

void HealthService::SetNotReady() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    std::lock_guard<std::mutex> lock(mu_);
    ready_ = false;
    watchers = watchers_;
  }
  for (const auto& watcher : watchers) watcher->Set(StatusOf(watcher->service()));
}

void HealthService::Shutdown() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    std::lock_guard<std::mutex> lock(mu_);
    shut_down_ = true;
    watchers = watchers_;
  }
  for (const auto& watcher : watchers) {
    watcher->End({grpc::StatusCode::UNAVAILABLE, "the server is shutting down"});
  }
}

void HealthService::Remove(const Watcher* watcher) {
  std::shared_ptr<Watcher> removed;  // destroyed outside the lock
  std::lock_guard<std::mutex> lock(mu_);
  const auto it = std::find_if(watchers_.begin(), watchers_.end(),
                               [&](const auto& w) { return w.get() == watcher; });
  if (it == watchers_.end()) return;
  removed = std::move(*it);
  watchers_.erase(it);
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* rpc,
                                               const grpc::ByteBuffer* request,
                                               grpc::ByteBuffer* response) {
  return AnswerUnary<HealthCheckRequest, HealthCheckResponse>(
      context_, rpc, "Health", "Check", request, response,
      [this](const HealthCheckRequest& in, HealthCheckResponse* out) -> absl::Status {
        const ServingStatus status = StatusOf(in.service());
        if (status == HealthCheckResponse::SERVICE_UNKNOWN) {
          return absl::NotFoundError(
              absl::StrCat("service: \"", in.service(),
                           "\" is unknown; ask for \"\", sluice.v1.Inference, "
                           "vllm.grpc.engine.VllmEngine or sluice.v1.Control"));
        }
        out->set_status(status);
        return absl::OkStatus();
      },
      Need::kNothing);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* HealthService::Watch(grpc::CallbackServerContext*,
                                                                 const grpc::ByteBuffer* bytes) {
  HealthCheckRequest request;
  const absl::Status parsed = ParseMessage(*bytes, &request);
  const auto watcher = std::make_shared<Watcher>(*this, request.service());
  bool shut_down = false;
  {
    std::lock_guard<std::mutex> lock(mu_);
    watchers_.push_back(watcher);  // before asking for the status: no change is missed
    shut_down = shut_down_;
  }
  if (!parsed.ok()) {
    watcher->End(ToGrpcStatus(parsed));
  } else if (shut_down) {
    watcher->End({grpc::StatusCode::UNAVAILABLE, "the server is shutting down"});
  } else {
    watcher->Set(StatusOf(request.service()));
  }
  return watcher.get();
}

}  // namespace sluice
