// A refusal that knows when to try again: an absl::Status with a time attached, for whoever turns
// it into google.rpc.RetryInfo or a Retry-After header.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice {

// `status` with `delay` attached. REQUIRES: not OK.
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);

// What WithRetryAfter() attached.
std::optional<absl::Duration> RetryAfterOf(const absl::Status& status);

}  // namespace sluice
