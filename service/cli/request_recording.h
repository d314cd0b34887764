// RequestRecording: `serve --record`. Hands what the engine observes to a TraceRecorder, under a
// salt of its own and with tenants as numbers.
//
// REQUIRES of OnArrival and OnEnd: one thread, the engine's.
#pragma once

#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"
#include "service/engine/request_observer.h"
#include "service/workload/trace_recorder.h"

namespace sluice {

class RequestRecording final : public RequestObserver {
 public:
  // Returns what TraceRecorder::Create() returns.
  static absl::StatusOr<std::unique_ptr<RequestRecording>> Create(const std::string& path,
                                                                  Tokens block_tokens);

  Ticket OnArrival(const RequestSpec& spec, absl::Time at) override;
  void OnEnd(Ticket ticket, Tokens output) override;

  // Not while the engine runs. See TraceRecorder.
  absl::Status Close() { return recorder_->Close(); }
  TraceRecorder::Stats stats() const { return recorder_->stats(); }

 private:
  explicit RequestRecording(std::unique_ptr<TraceRecorder> recorder)
      : recorder_(std::move(recorder)) {}

  const std::unique_ptr<TraceRecorder> recorder_;
  absl::flat_hash_map<std::string, int32_t> tenants_;  // in order of appearance
};

}  // namespace sluice
