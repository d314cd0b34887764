// Explanation (the scheduler's) to ExplainResponse (the client's).
//
// Pure; thread-safe.
#pragma once

#include "scheduler/explanation.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

// REQUIRES: explanation.status is OK.
v1::ExplainResponse MakeExplainResponse(const Explanation& explanation);

}  // namespace sluice
