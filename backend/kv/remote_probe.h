// RemoteProbe: how fast a remote store takes and gives blocks of the size in use, and how long it
// takes to answer at all. It writes one value of its own, which is gone afterwards.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/kv/remote_store.h"
#include "scheduler/base/units.h"

namespace sluice {

struct RemoteRates {
  Bytes value;             // of `write` and `read`
  absl::Duration write;    // of one value, until it is confirmed; the median
  absl::Duration read;     // of one value
  absl::Duration latency;  // of the shortest answer
};

// Takes about `time`. Returns what RemotePool::Run() returns, RESOURCE_EXHAUSTED if the store is
// full, PERMISSION_DENIED.
absl::StatusOr<RemoteRates> ProbeRemote(RemoteStore& store, absl::Duration time,
                                        const std::function<absl::Time()>& clock);

}  // namespace sluice
