#include "backend/sim/sim_options.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

absl::Status CheckAtLeast(absl::string_view name, double value, double least) {
  if (std::isfinite(value) && value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("sim: ", name, ": ", value, " is not a number of at least ", least));
}

absl::Status CheckRate(absl::string_view name, double value) {
  if (value >= 0 && value <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("sim: ", name, ": ", value, " is not in [0, 1]"));
}

double Double(int64_t value) { return static_cast<double>(value); }

}  // namespace

absl::Status SimOptions::Validate() const {
  SLUICE_RETURN_IF_ERROR(cost.Validate());
  SLUICE_RETURN_IF_ERROR(
      CheckAtLeast("tokens_per_block", Double(geometry.tokens_per_block.value()), 1));
  SLUICE_RETURN_IF_ERROR(
      CheckAtLeast("bytes_per_block", Double(geometry.bytes_per_block.value()), 1));
  SLUICE_RETURN_IF_ERROR(CheckAtLeast("device_blocks", Double(device_blocks.value()), 1));
  SLUICE_RETURN_IF_ERROR(CheckAtLeast("host_blocks", Double(host_blocks.value()), 0));
  SLUICE_RETURN_IF_ERROR(CheckAtLeast("disk_blocks", Double(disk_blocks.value()), 0));
  SLUICE_RETURN_IF_ERROR(CheckAtLeast("vocab_size", vocab_size, 2));
  SLUICE_RETURN_IF_ERROR(CheckAtLeast("noise", noise, 0));
  SLUICE_RETURN_IF_ERROR(CheckAtLeast("mean_output", mean_output, 0));
  SLUICE_RETURN_IF_ERROR(CheckRate("copy_failure_rate", copy_failure_rate));
  SLUICE_RETURN_IF_ERROR(CheckRate("step_failure_rate", step_failure_rate));
  if (attends_in_place && !cost.attends_in_place()) {
    return absl::InvalidArgumentError(
        "sim: attends_in_place: the costs say it is not possible here (per_in_place_token is 0)");
  }
  return absl::OkStatus();
}

}  // namespace sluice
