// RequestObserver is told which requests arrive and how they end: for recordings.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "scheduler/request.h"

namespace sluice {

class RequestObserver {
 public:
  // Names a request between its arrival and its end.
  using Ticket = uint64_t;

  virtual ~RequestObserver() = default;

  // Both are called by the engine thread and must not block.
  virtual Ticket OnArrival(const RequestSpec& spec, absl::Time at) = 0;
  // Once per arrival. `output`: tokens drawn; 0 if the scheduler refused it.
  virtual void OnEnd(Ticket ticket, Tokens output) = 0;
};

}  // namespace sluice
