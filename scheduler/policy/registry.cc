#include "scheduler/policy/registry.h"

#include <algorithm>
#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/policy/baselines.h"
#include "scheduler/policy/slack.h"

namespace sluice {
namespace {

struct Entry {
  const char* name;
  std::unique_ptr<Policy> (*make)(const PolicyOptions&);
};

constexpr Entry kPolicies[] = {
    {"slack", MakeSlackPolicy},
    {"fcfs", MakeFcfsPolicy},
    {"vllm-fcfs-skip", MakeVllmFcfsSkipPolicy},
    {"hicache-fcfs", MakeHicacheFcfsPolicy},
    {"lpm", MakeLpmPolicy},
    {"hrrn", MakeHrrnPolicy},
    {"shortest-prefill", MakeShortestPrefillPolicy},
    {"drr", MakeDrrPolicy},
    {"strata", MakeStrataPolicy},
    {"naive-deferral", MakeNaiveDeferralPolicy},
    {"bidaw", MakeBidawPolicy},
    {"cake", MakeCakePolicy},
    {"kvpr", MakeKvprPolicy},
    {"timed-prefetch", MakeTimedPrefetchPolicy},
    {"aged-wspt", MakeAgedWsptPolicy},
    {"johnson", MakeJohnsonPolicy},
};

}  // namespace

std::vector<std::string> PolicyNames() {
  std::vector<std::string> names;
  for (const Entry& entry : kPolicies) names.emplace_back(entry.name);
  return names;
}

absl::StatusOr<std::unique_ptr<Policy>> MakePolicy(const std::string& name,
                                                   const PolicyOptions& options) {
  const auto* entry = std::find_if(std::begin(kPolicies), std::end(kPolicies),
                                   [&](const Entry& e) { return name == e.name; });
  if (entry == std::end(kPolicies)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "policy \"", name, "\" does not exist; there are ", absl::StrJoin(PolicyNames(), ", ")));
  }
  return entry->make(options);
}

}  // namespace sluice
