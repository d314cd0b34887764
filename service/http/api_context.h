// What the endpoints of the OpenAI-compatible API need to answer: handed in, so that tests assemble
// the same server around another backend.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <string>

#include "absl/time/time.h"
#include "service/chat/chat_template.h"
#include "service/grpc/request_checks.h"
#include "service/grpc/service_context.h"
#include "service/grpc/stream_pump.h"

namespace sluice {

class ApiContext {
 public:
  // What `service` refers to must outlive this and all calls.
  ApiContext(ServiceContext service, ChatTemplate chat_template);

  const ServiceContext& service() const { return service_; }
  const ChatTemplate& chat_template() const { return chat_template_; }
  const ModelLimits& limits() const { return limits_; }
  const std::shared_ptr<StreamPump>& pump() const { return pump_; }
  absl::Time started() const { return started_; }

  // Not one that the gRPC services of the process use.
  RequestId NextId() { return RequestId(next_id_.fetch_add(1)); }
  // Unpredictable; for requests that name no seed, and for names of requests.
  uint64_t DrawSeed();

 private:
  const ServiceContext service_;
  const ChatTemplate chat_template_;
  const ModelLimits limits_;
  const absl::Time started_;
  const std::shared_ptr<StreamPump> pump_;  // shared with calls that end late
  std::atomic<int64_t> next_id_;

  std::mutex mu_;
  std::mt19937_64 seeds_;  // guarded by mu_
};

}  // namespace sluice
