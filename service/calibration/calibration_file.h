// The file that `sluice calibrate` writes and `sluice serve` reads: a hardware profile in the
// format of deploy/profiles.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/cost/hardware_profile.h"
#include "scheduler/cost/measure.h"
#include "scheduler/cost/model_profile.h"

namespace sluice {

// The user's ~/.cache/sluice/hardware.json; empty for a user without a home directory.
std::string DefaultCalibrationPath();

// Writes the file under another name, then gives it its own, so that no half of one is ever there.
// Makes missing directories. Returns UNAVAILABLE naming the path; nothing new is left behind then.
absl::Status WriteCalibration(const std::string& path, const HardwareProfile& profile);

// The profile in the file at `path`; empty: at the default place. Returns NOT_FOUND if it is not
// there, INVALID_ARGUMENT if it is no profile.
absl::StatusOr<HardwareProfile> ReadCalibration(const std::string& path);

struct CalibrationRequest {
  // The file; empty: the default place, where it may be missing.
  std::string path;
  // Directory with config.json of the model to run.
  std::string model;
  NumberFormat weights = NumberFormat::kBf16;
  NumberFormat kv = NumberFormat::kBf16;
  // The profile to guess with where nothing was measured. cpu-default: with this machine's memory.
  std::string builtin = "cpu-default";
  // The rate copies are paced to, per direction; nothing: as fast as memory.
  std::optional<ByteRate> link;
};

struct Calibration {
  CostCoefficients cost;
  ModelProfile model;
  HardwareProfile hardware;
  bool measured = false;  // false: the built-in guess, profile cpu-default
  // One line for the log: which file or default, from when, and what to do about it.
  std::string provenance;
};

// What steps and copies of a model cost on this machine, to begin with: from the calibration file
// if there is one, else from the conservative profile cpu-default. A file in the default place that
// cannot be used is replaced by that default, too, and `provenance` says why.
//
// Returns what reading `path` returns (NOT_FOUND, INVALID_ARGUMENT) if one is given;
// INVALID_ARGUMENT or UNIMPLEMENTED for the model's config.json.
absl::StatusOr<Calibration> LoadCalibration(const CalibrationRequest& request);

}  // namespace sluice
