// TraceEvent: one span of time on one lane of a trace. Plain data of fixed size, so that recording
// one is a copy and a ring of them never allocates.
#pragma once

#include <array>
#include <cstdint>
#include <variant>

#include "absl/time/time.h"
#include "scheduler/stats.h"
#include "scheduler/step.h"

namespace sluice {

// The device ran a step.
struct StepSpan {
  int64_t step = 0;
  int32_t sequences = 0;
  int32_t prefill_tokens = 0;
  int32_t decode_tokens = 0;
  absl::Duration stall;  // part of it that waited for loads
};

// A copy was on the link, first byte to last.
struct CopySpan {
  int64_t copy = 0;
  LinkDirection direction = LinkDirection::kHostToDevice;
  CopyClass copy_class = CopyClass::kDemand;
  absl::StatusCode result = absl::StatusCode::kOk;
  int32_t blocks = 0;
  Bytes bytes;
  absl::Duration queued;  // wait for the link before
  int64_t request = 0;    // lane of the request that waits for it; 0: none
};

// What a request was doing.
enum class RequestPhase : uint8_t { kQueue, kLoad, kPrefill, kDecode };
struct PhaseSpan {
  int64_t request = 0;  // its lane
  RequestPhase phase = RequestPhase::kQueue;
  bool open = false;  // goes on after the span's end
};

// A request as a whole; contains its phases.
struct RequestSpan {
  int64_t request = 0;  // its lane
  RequestPlan plan = RequestPlan::kResident;
  FinishReason reason = FinishReason::kStop;
  bool admitted = false;
  bool open = false;  // still runs: of the rest, only `prompt` is known
  Tokens prompt;
  Tokens output;
  Tokens computed;
  std::array<Tokens, kTierCount> cached{};
  double kappa = 0;
  absl::Duration load_busy;
  absl::Duration load_exposed;
  absl::Duration predicted_ttft = absl::InfiniteDuration();
  int32_t preemptions = 0;
};

struct TraceEvent {
  absl::Time start;
  absl::Time end;  // not before `start`
  std::variant<StepSpan, CopySpan, PhaseSpan, RequestSpan> span;
};

}  // namespace sluice
