// PlanResult: all that one `sluice plan` found out, ready to be shown, and the sentence that sums
// it up.
#pragma once

#include <string>
#include <vector>

#include "service/cli/plan_analysis.h"
#include "service/cli/plan_requests.h"
#include "service/cli/plan_scenario.h"

namespace sluice {

struct PlanResult {
  struct Outcome {
    PlanScenario scenario;
    PlanAnalysis analysis;
  };
  Outcome now;
  std::vector<Outcome> what_ifs;
  PlanRequests requests;
  Tokens context_limit;  // of the regions
};

// "llama-3.1-70b on 2 x h100-pcie5".
std::string DeploymentText(const Deployment& d);
// Formats, rates and link, for a second line.
std::string AssumptionsText(const Deployment& d);

// One sentence: whether offloading pays, why, and which change would help most.
std::string Recommendation(const PlanResult& result);

// "-28 %", "+3 %", "same": how `value` differs from `base`.
std::string ChangeText(double value, double base);

Seconds TtftOf(const PlanAnalysis& analysis, TtftKind kind);

// "98 GB/s".
std::string RateText(ByteRate rate);

}  // namespace sluice
