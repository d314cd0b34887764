// Explanation (the scheduler's) to ExplainResponse (the client's).
//
// Pure; thread-safe.
#pragma once

#include <string_view>

#include "scheduler/explanation.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

// `storage`: what is behind the host (BackendInfo::storage_place).
// REQUIRES: explanation.status is OK.
v1::ExplainResponse MakeExplainResponse(const Explanation& explanation,
                                        std::string_view storage = "disk");

}  // namespace sluice
