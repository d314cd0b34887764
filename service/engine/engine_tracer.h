// EngineTracer is told what the engine does, while it does it: for traces that people look at.
#pragma once

#include <span>

#include "absl/time/time.h"
#include "scheduler/scheduler.h"

namespace sluice {

// All are called by the engine thread and must not block it for long.
class EngineTracer {
 public:
  virtual ~EngineTracer() = default;

  // A request was queued; it ends with one OnFinish().
  virtual void OnArrival(const RequestSpec& spec, absl::Time at) = 0;
  // Handed to the backend; each ends with one OnCopyDone().
  virtual void OnCopiesStarted(std::span<const Copy> copies, absl::Time at) = 0;
  virtual void OnCopyDone(const CopyResult& result) = 0;
  // A step ended. What `plan` views is still valid.
  virtual void OnStep(const StepPlan& plan, const StepResult& result) = 0;
  virtual void OnFirstToken(RequestId request, absl::Time at) = 0;
  virtual void OnFinish(RequestId request, const RequestFinish& finish, absl::Time at) = 0;
};

}  // namespace sluice
