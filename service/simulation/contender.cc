#include "service/simulation/contender.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/policy/registry.h"
#include "service/workload/prefix_cache_model.h"

namespace sluice {
namespace {

constexpr char kOffloadOff[] = "offload-off";
constexpr char kAllResident[] = "all-resident";
constexpr int64_t kMostBlocks = int64_t{1} << 30;

absl::StatusOr<Contender> ParseContender(const std::string& name) {
  Contender contender;
  contender.label = name;
  std::string reference = name;
  contender.policy = PolicyNames().front();
  if (const size_t at = name.find('@'); at != std::string::npos) {
    contender.policy = name.substr(0, at);
    reference = name.substr(at + 1);
  }
  const std::vector<std::string> policies = PolicyNames();
  const auto known = [&](const std::string& policy) {
    return std::find(policies.begin(), policies.end(), policy) != policies.end();
  };
  if (reference == kOffloadOff) {
    contender.mode = Contender::Mode::kOffloadOff;
  } else if (reference == kAllResident) {
    contender.mode = Contender::Mode::kAllResident;
  } else if (reference == name) {
    contender.policy = name;
  } else {
    contender.policy.clear();
  }
  if (known(contender.policy)) return contender;
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", name, "\" is unknown; there are all, ", absl::StrJoin(policies, ", "), ", ",
      kOffloadOff, ", ", kAllResident, ", and POLICY@", kOffloadOff, ", POLICY@", kAllResident));
}

// Blocks that hold every prompt and answer at once.
Blocks BlocksForAll(const std::vector<TraceRequest>& requests, const KvGeometry& geometry) {
  PrefixCacheModelOptions everything;
  const std::vector<CacheSample> samples = SamplePrefixCache(requests, everything);
  Blocks sum;
  for (size_t i = 0; i < requests.size(); ++i) {
    // The block that the new part begins in, and the one that the answer's bound ends in.
    sum += geometry.BlocksFor(samples[i].fresh + requests[i].max_new()) + Blocks(2);
  }
  return sum;
}

}  // namespace

absl::StatusOr<std::vector<Contender>> ParseContenders(const std::string& list) {
  std::vector<std::string> names;
  if (list == "all") {
    names = PolicyNames();
    names.emplace_back(kOffloadOff);
    names.emplace_back(kAllResident);
  } else {
    for (absl::string_view name : absl::StrSplit(list, ',')) {
      names.emplace_back(absl::StripAsciiWhitespace(name));
    }
  }
  std::vector<Contender> contenders;
  for (const std::string& name : names) {
    SLUICE_ASSIGN_OR_RETURN(Contender contender, ParseContender(name));
    for (const Contender& other : contenders) {
      if (other.label != name) continue;
      return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is named twice"));
    }
    contenders.push_back(std::move(contender));
  }
  return contenders;
}

SimulationOptions OptionsFor(const Contender& contender, const SimulationOptions& options,
                             const std::vector<TraceRequest>& requests) {
  SimulationOptions result = options;
  result.scheduler.policy = contender.policy;
  if (contender.mode == Contender::Mode::kPolicy) return result;
  result.scheduler.host_blocks = Blocks(0);
  result.scheduler.disk_blocks = Blocks(0);
  result.scheduler.attend_in_place = false;
  result.machine.attends_in_place = false;
  if (contender.mode == Contender::Mode::kAllResident) {
    const Blocks all = BlocksForAll(requests, options.scheduler.geometry);
    result.scheduler.device_blocks =
        std::clamp(all, options.scheduler.device_blocks, Blocks(kMostBlocks));
  }
  result.machine.device_blocks = result.scheduler.device_blocks;
  result.machine.host_blocks = Blocks(0);
  result.machine.disk_blocks = Blocks(0);
  return result;
}

}  // namespace sluice
