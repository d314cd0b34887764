// PlanScenario: the deployment that `sluice plan` looks at, and the ones its what-ifs ask about.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/cost/cost_model.h"
#include "service/cli/plan_options.h"
#include "service/profiles/catalogue.h"

namespace sluice {

struct PlanScenario {
  std::string label;  // "now", or the what-if as typed, with the devices if they changed
  Deployment deployment;
  // False: as few devices as hold the weights and one sequence of the whole context, chosen anew
  // for another model or machine.
  bool tp_fixed = false;
};

// What the flags describe. Returns NOT_FOUND for an unknown name and INVALID_ARGUMENT for values
// that make no deployment, naming the flag.
absl::StatusOr<PlanScenario> BaseScenario(const PlanOptions& options, const Catalogue& catalogue);

// `base` with the changes of one what-if, "key=value[,key=value]".
// Returns INVALID_ARGUMENT or NOT_FOUND naming the what-if, key, value and what is allowed.
absl::StatusOr<PlanScenario> ApplyWhatIf(const PlanScenario& base, const std::string& what_if,
                                         const Catalogue& catalogue);

// The what-ifs shown when the user asks none: those of a faster link, smaller KV, MLA and a power
// cap that change anything here.
std::vector<std::string> DefaultWhatIfs(const PlanScenario& base);

// All of the user's what-ifs, or the default ones; defaults that do not fit are left out. "none"
// alone: no what-if.
absl::StatusOr<std::vector<PlanScenario>> WhatIfScenarios(const PlanScenario& base,
                                                          const std::vector<std::string>& asked,
                                                          const Catalogue& catalogue);

}  // namespace sluice
