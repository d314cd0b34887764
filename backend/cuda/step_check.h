// Whether a step is one that this backend was promised: sizes within its options, blocks within its
// pools. What fails here is a mistake of the caller, and crashes.
#pragma once

#include "backend/backend.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice::cuda {

struct StepLimits {
  Tokens model_len;
  Tokens step_tokens;
  int32_t vocab = 0;
};

// Crashes unless `plan` keeps what scheduler/step.h says, within `limits` and `info`'s pools.
void CheckStep(const StepPlan& plan, const BackendInfo& info, const StepLimits& limits);

}  // namespace sluice::cuda
