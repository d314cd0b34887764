#include "service/cli/request_recording.h"

#include <random>
#include <utility>

#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// From the system, and never written down: without it nobody can test a guessed prompt.
Hash128 DrawSalt() {
  std::random_device device;
  const auto draw64 = [&device] { return uint64_t{device()} << 32U | device(); };
  const uint64_t low = draw64();
  return {low, draw64()};
}

}  // namespace

absl::StatusOr<std::unique_ptr<RequestRecording>> RequestRecording::Create(const std::string& path,
                                                                           Tokens block_tokens) {
  TraceRecorderOptions options;
  options.block_tokens = block_tokens;
  options.salt = DrawSalt();
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<TraceRecorder> recorder,
                          TraceRecorder::Create(path, options));
  return std::unique_ptr<RequestRecording>(new RequestRecording(std::move(recorder)));
}

RequestObserver::Ticket RequestRecording::OnArrival(const RequestSpec& spec, absl::Time at) {
  const auto next = static_cast<int32_t>(tenants_.size());
  TraceRecorder::Arrival arrival;
  arrival.at = at;
  arrival.prompt = spec.prompt;
  arrival.cache_salt = spec.cache_salt;
  arrival.tenant = tenants_.try_emplace(spec.tenant, next).first->second;
  arrival.priority = spec.priority;
  return recorder_->OnArrival(arrival);
}

void RequestRecording::OnEnd(Ticket ticket, Tokens output) { recorder_->OnFinish(ticket, output); }

}  // namespace sluice
