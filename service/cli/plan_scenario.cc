#include "service/cli/plan_scenario.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"
#include "service/config/flag_values.h"
#include "service/config/suggest.h"

namespace sluice {
namespace {

constexpr int64_t kMostDevices = 1024;
constexpr int64_t kRopeDimensions = 64;  // of a latent, as in DeepSeek-V2 and V3
constexpr int64_t kSmallestLatent = kRopeDimensions + 1;
constexpr int64_t kLargestLatent = 65536;

// Names of Deployment::Validate() as the user knows them.
// `dashes` go before a flag's name.
std::string InFlagWords(absl::string_view message, absl::string_view dashes) {
  if (!absl::ConsumePrefix(&message, "deployment: ")) return std::string(message);
  return absl::StrCat(dashes, absl::StrReplaceAll(message, {{"tensor_parallel: ", "tp: "},
                                                            {"power_cap: ", "power-cap: "}}));
}

// As few devices, in powers of two, as hold the weights and one sequence of the whole context.
int64_t DevicesFor(Deployment d) {
  const int64_t smallest = SmallestTensorParallel(d);
  if (smallest == 0) return kMostDevices;
  for (d.tensor_parallel = smallest; d.tensor_parallel <= kMostDevices; d.tensor_parallel *= 2) {
    if (LargestBatch(d, Tokens(d.model.max_context)) > 0) return d.tensor_parallel;
  }
  return smallest;
}

// Chooses the number of devices unless the user did, and checks the whole. `where` begins messages.
absl::Status Settle(PlanScenario& scenario, absl::string_view where) {
  Deployment& d = scenario.deployment;
  absl::Status status = d.model.Validate();
  if (status.ok()) status = d.hardware.Validate();
  if (status.ok() && !scenario.tp_fixed) {
    d.tensor_parallel = d.basis == RateBasis::kPaper ? 1 : DevicesFor(d);
  }
  if (status.ok()) status = d.Validate();
  if (status.ok()) return status;
  return absl::InvalidArgumentError(
      absl::StrCat(where, InFlagWords(status.message(), where.empty() ? "--" : "")));
}

// One change to a scenario.
struct Change {
  PlanScenario& scenario;
  const std::string& value;
  const Catalogue& catalogue;

  Deployment& deployment() const { return scenario.deployment; }
};

absl::Status SetFormat(const Change& change, NumberFormat& target) {
  SLUICE_ASSIGN_OR_RETURN(target, ParseNumberFormat(change.value));
  return absl::OkStatus();
}

absl::Status SetLink(const Change& change) {
  SLUICE_ASSIGN_OR_RETURN(const double rate, ParseUserQuantity(change.value, UnitKind::kByteRate));
  change.deployment().link = ByteRate(rate);
  return absl::OkStatus();
}

// The cache on the device and off it change together: one is copied to the other.
absl::Status SetKv(const Change& change) {
  SLUICE_RETURN_IF_ERROR(SetFormat(change, change.deployment().kv));
  change.deployment().kv_offload = change.deployment().kv;
  return absl::OkStatus();
}

absl::Status SetKvOffload(const Change& change) {
  return SetFormat(change, change.deployment().kv_offload);
}

absl::Status SetWeights(const Change& change) {
  return SetFormat(change, change.deployment().weights);
}

absl::Status SetTp(const Change& change) {
  SLUICE_ASSIGN_OR_RETURN(change.deployment().tensor_parallel,
                          ParseInteger(change.value, 1, kMostDevices));
  change.scenario.tp_fixed = true;
  return absl::OkStatus();
}

absl::Status SetPowerCap(const Change& change) {
  SLUICE_ASSIGN_OR_RETURN(const double watts, ParseUserQuantity(change.value, UnitKind::kPower));
  change.deployment().power_cap = Watts(watts);
  return absl::OkStatus();
}

// The cache of a latent of this size in every layer; parameters stay what they are.
absl::Status SetMla(const Change& change) {
  ModelProfile& model = change.deployment().model;
  SLUICE_ASSIGN_OR_RETURN(model.latent_dim,
                          ParseInteger(change.value, kSmallestLatent, kLargestLatent));
  model.latent_value_dim = model.latent_dim - kRopeDimensions;
  return absl::OkStatus();
}

// Other hardware has a link of its own.
absl::Status SetHardware(const Change& change) {
  SLUICE_ASSIGN_OR_RETURN(change.deployment().hardware,
                          change.catalogue.FindHardware(change.value));
  change.deployment().link.reset();
  return absl::OkStatus();
}

absl::Status SetModel(const Change& change) {
  SLUICE_ASSIGN_OR_RETURN(change.deployment().model, change.catalogue.FindModel(change.value));
  change.deployment().weights = change.deployment().model.weights;
  return absl::OkStatus();
}

absl::Status SetStepFloor(const Change& change) {
  SLUICE_ASSIGN_OR_RETURN(const double floor, ParseUserQuantity(change.value, UnitKind::kTime));
  change.deployment().hardware.step_floor = Seconds(floor);
  change.deployment().hardware.layer_floor = Seconds(0);
  return absl::OkStatus();
}

absl::Status SetMemory(const Change& change) {
  SLUICE_ASSIGN_OR_RETURN(const double bytes, ParseUserQuantity(change.value, UnitKind::kBytes));
  change.deployment().hardware.memory = Bytes(std::llround(bytes));
  return absl::OkStatus();
}

struct Key {
  const char* name;
  absl::Status (*set)(const Change&);
};
// In the order in which they apply: what replaces a whole profile comes before what changes it.
constexpr Key kKeys[] = {{"model", SetModel},
                         {"hardware", SetHardware},
                         {"weights-dtype", SetWeights},
                         {"kv-dtype", SetKv},
                         {"kv-offload-dtype", SetKvOffload},
                         {"tp", SetTp},
                         {"link", SetLink},
                         {"power-cap", SetPowerCap},
                         {"mla", SetMla},
                         {"step-floor", SetStepFloor},
                         {"memory", SetMemory}};

absl::Status CheckKey(const std::string& name, const std::string& pair) {
  std::vector<std::string> names;
  for (const Key& key : kKeys) {
    if (name == key.name) return absl::OkStatus();
    names.emplace_back(key.name);
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown key in \"", pair, "\"",
                                                 DidYouMean(name, names, ""),
                                                 "; keys: ", absl::StrJoin(names, ", ")));
}

// "key=value,key=value" as a list of pairs. Returns INVALID_ARGUMENT for another form.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> SplitPairs(
    const std::string& text) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const std::string& pair : std::vector<std::string>(absl::StrSplit(text, ','))) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == pair.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", pair, "\" is not KEY=VALUE, for example link=450GB/s"));
    }
    const std::string name = KebabCase(pair.substr(0, equals));
    SLUICE_RETURN_IF_ERROR(CheckKey(name, pair));
    for (const auto& [other, value] : pairs) {
      if (other != name) continue;
      return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is given twice"));
    }
    pairs.emplace_back(name, pair.substr(equals + 1));
  }
  return pairs;
}

absl::Status Prefixed(absl::string_view prefix, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(prefix, status.message()));
}

absl::Status ApplyPairs(const std::vector<std::pair<std::string, std::string>>& pairs,
                        const Catalogue& catalogue, PlanScenario& scenario) {
  for (const Key& key : kKeys) {
    for (const auto& [name, value] : pairs) {
      if (name != key.name) continue;
      SLUICE_RETURN_IF_ERROR(
          Prefixed(absl::StrCat(name, ": "), key.set({scenario, value, catalogue})));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PlanScenario> BaseScenario(const PlanOptions& options, const Catalogue& catalogue) {
  PlanScenario scenario{"now", {}, options.tp.has_value()};
  Deployment& d = scenario.deployment;
  absl::StatusOr<ModelProfile> model = catalogue.FindModel(options.model);
  SLUICE_RETURN_IF_ERROR(Prefixed("--model: ", model.status()));
  absl::StatusOr<HardwareProfile> hardware = catalogue.FindHardware(options.hardware);
  SLUICE_RETURN_IF_ERROR(Prefixed("--hardware: ", hardware.status()));
  d.model = *std::move(model);
  d.hardware = *std::move(hardware);
  d.basis = options.rate_basis();
  d.weights = d.model.weights;
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) pairs.emplace_back(key, value);
  };
  add("weights-dtype", options.weights_dtype);
  add("kv-dtype", options.kv_dtype);
  add("kv-offload-dtype", options.kv_offload_dtype);
  add("link", options.link);
  add("power-cap", options.power_cap);
  SLUICE_RETURN_IF_ERROR(Prefixed("--", ApplyPairs(pairs, catalogue, scenario)));
  if (options.tp.has_value()) d.tensor_parallel = *options.tp;
  SLUICE_RETURN_IF_ERROR(Settle(scenario, ""));
  return scenario;
}

absl::StatusOr<PlanScenario> ApplyWhatIf(const PlanScenario& base, const std::string& what_if,
                                         const Catalogue& catalogue) {
  PlanScenario scenario = base;
  scenario.label = what_if;
  const auto pairs = SplitPairs(what_if);
  SLUICE_RETURN_IF_ERROR(Prefixed("--what-if: ", pairs.status()));
  SLUICE_RETURN_IF_ERROR(Prefixed("--what-if: ", ApplyPairs(*pairs, catalogue, scenario)));
  // Only another model or machine is a reason to count devices anew.
  const bool other = std::any_of(pairs->begin(), pairs->end(), [](const auto& pair) {
    return pair.first == "model" || pair.first == "hardware";
  });
  if (!other) scenario.tp_fixed = true;
  SLUICE_RETURN_IF_ERROR(Settle(scenario, absl::StrCat("--what-if ", what_if, ": ")));
  const int64_t devices = scenario.deployment.tensor_parallel;
  const bool said = std::any_of(pairs->begin(), pairs->end(),
                                [](const auto& pair) { return pair.first == "tp"; });
  if (!said && devices != base.deployment.tensor_parallel) {
    absl::StrAppend(&scenario.label, " (tp ", devices, ")");
  }
  return scenario;
}

std::vector<std::string> DefaultWhatIfs(const PlanScenario& base) {
  const Deployment& d = base.deployment;
  std::vector<std::string> list;
  const double link = EffectiveLinkRate(d).value();
  list.push_back(absl::StrCat("link=", std::llround(2 * link / 1e9), "GB/s"));
  if (BytesOf(d.kv_offload) > 1) list.emplace_back("kv-offload-dtype=fp8");
  if (BytesOf(d.kv_offload) > 0.5) list.emplace_back("kv-offload-dtype=int4");
  if (d.model.latent_dim == 0) list.emplace_back("mla=576");
  const double cap = 10 * std::round((d.hardware.idle + d.hardware.tdp).value() / 20);
  if (!d.power_cap.has_value()) list.push_back(absl::StrCat("power-cap=", cap, "W"));
  return list;
}

absl::StatusOr<std::vector<PlanScenario>> WhatIfScenarios(const PlanScenario& base,
                                                          const std::vector<std::string>& asked,
                                                          const Catalogue& catalogue) {
  std::vector<PlanScenario> scenarios;
  if (asked.size() == 1 && asked.front() == "none") return scenarios;
  for (const std::string& what_if : asked.empty() ? DefaultWhatIfs(base) : asked) {
    absl::StatusOr<PlanScenario> scenario = ApplyWhatIf(base, what_if, catalogue);
    if (!scenario.ok() && asked.empty()) continue;
    SLUICE_RETURN_IF_ERROR(scenario.status());
    scenarios.push_back(*std::move(scenario));
  }
  return scenarios;
}

}  // namespace sluice
