// Reads request traces: JSON lines, plain or gzip, one request a line, sorted by arrival.
//
//   common        arrival_ms  input_tokens  output_tokens
//   block form    block_tokens  block_hashes: [id ...]   chained: an equal id means an equal
//   prefix;
//                 the last block may be partial
//   session form  session  turn  shared_prefix_tokens  ref  block_tokens
//                 the first shared_prefix_tokens tokens are those of line `ref` (0-based, earlier;
//                 null: nothing shared), the rest is new
//   plain form    none of these: the prompt shares nothing
//   optional      tenant (0, 1, ...)  priority
//
// Other keys are ignored. A ref may name a request that an option leaves out.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/workload/trace_request.h"

namespace sluice {

struct TraceOptions {
  // Divides all token counts (rounding down, at least 1), for models smaller than the trace's.
  int64_t scale = 1;
  // Divides output tokens instead of `scale`; 0: `scale`.
  int64_t output_scale = 0;
  // Leaves out requests with longer prompts, after scaling.
  Tokens max_input{std::numeric_limits<int64_t>::max()};
  // Keeps this share of conversation trees, (0, 1]. Whole trees stay or go, so prefixes stay whole.
  // A tree is all requests whose session begins with the same part before '/', or whose second
  // block (else first block) is the same. Plain requests have no trees: all are kept.
  double keep = 1;
  // Above 1 compresses time: arrivals are divided by it and rounded down to milliseconds.
  double rate_scale = 1;
  // Ignores everything that arrives later, after rate_scale.
  absl::Duration time_limit = absl::InfiniteDuration();
  // At most this many requests, of those not left out.
  int64_t max_requests = std::numeric_limits<int64_t>::max();
  // Shifts time so that the first request comes at 0; else arrivals are as in the file.
  bool start_at_zero = true;
};

struct Trace {
  std::vector<TraceRequest> requests;  // sorted by arrival
  int64_t left_out_too_long = 0;       // by max_input
  int64_t left_out_trees = 0;          // by keep
};

// Reads the trace at `path`.
// Returns NOT_FOUND if it cannot be opened, DATA_LOSS if the gzip data is damaged, and
// INVALID_ARGUMENT naming file, line, key and value for a line that does not follow the format, or
// an option that is out of range.
absl::StatusOr<Trace> ReadTrace(const std::string& path, const TraceOptions& options);

}  // namespace sluice
