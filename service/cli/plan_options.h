// The flags of `sluice plan`, as typed and as meant.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/cost_model.h"
#include "service/config/flag_set.h"
#include "service/profiles/quantity.h"

namespace sluice {

struct PlanOptions {
  std::string model;
  std::string hardware;
  std::vector<std::string> profile_dirs;
  std::optional<int64_t> tp;
  std::string weights_dtype;
  std::string kv_dtype;
  std::string kv_offload_dtype;
  std::string link;
  std::string power_cap;
  std::string basis;
  bool paper = false;

  std::optional<Tokens> cached;
  std::optional<Tokens> fresh;
  Tokens output{128};
  std::string workload;
  std::optional<int64_t> requests;
  int64_t seed = 1;
  std::optional<Tokens> max_input;

  std::vector<std::string> what_if;
  bool list = false;
  bool json = false;
  std::string report;
  std::string plots;

  // Defines the flags; they write into this object.
  void Define(FlagSet& flags);

  // Returns INVALID_ARGUMENT naming the flag: what is missing, excludes another, or has no meaning.
  absl::Status Validate() const;

  // --paper with neither model nor hardware: the paper's tables.
  bool paper_tables() const { return paper && model.empty() && hardware.empty(); }
  RateBasis rate_basis() const;
};

// The workload taken when neither a request nor a workload is given.
inline constexpr char kDefaultPlanWorkload[] = "agentic";

// "15GB/s", "15 GB/s". Returns INVALID_ARGUMENT saying which units there are if there is none, or
// if the number is not above 0.
absl::StatusOr<double> ParseUserQuantity(const std::string& text, UnitKind kind);

}  // namespace sluice
