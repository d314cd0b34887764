// The policies by name: ours and every baseline. See README.md for what each does and its source.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/policy/policy.h"
#include "scheduler/policy_options.h"

namespace sluice {

// Names in the order they are shown; "slack" first.
std::vector<std::string> PolicyNames();

// Returns INVALID_ARGUMENT naming the choices if `name` is none of them.
absl::StatusOr<std::unique_ptr<Policy>> MakePolicy(const std::string& name,
                                                   const PolicyOptions& options);

}  // namespace sluice
