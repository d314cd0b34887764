// Runs `sluice plan` in this process, from flags as one types them.
#pragma once

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "service/cli/plan_command.h"

namespace sluice::testing {

struct PlanOutcome {
  int code = 0;
  std::string out;
  std::string err;

  nlohmann::json Json() const { return nlohmann::json::parse(out); }
};

// `args` are "--name=value" or "--switch".
PlanOutcome RunPlan(const std::vector<std::string>& args);

// The same flags as options, without checks across flags.
PlanOptions PlanOptionsOf(const std::vector<std::string>& args);

}  // namespace sluice::testing
