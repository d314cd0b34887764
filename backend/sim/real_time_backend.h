// RealTimeSimBackend: the cost model as a device, in real time: Run() blocks as long as the step
// would take, copies end when they would. For `serve --backend=sim`, so that gateways, dashboards
// and autoscaling can be tried against a machine nobody has.
//
// A step's end and the copies it meets are computed when it begins: nobody but the engine thread
// starts copies, and that thread is in Run() meanwhile.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "backend/backend.h"
#include "backend/sim/sim_options.h"

namespace sluice {

// `clock`: every time reported is on it; it must not go back, and must run as fast as real time.
// Returns INVALID_ARGUMENT naming the option out of range.
absl::StatusOr<std::unique_ptr<Backend>> MakeRealTimeSimBackend(
    const SimOptions& options, std::function<absl::Time()> clock = absl::Now);

}  // namespace sluice
