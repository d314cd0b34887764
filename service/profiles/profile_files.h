// The profile files of deploy/profiles: JSON in which every number says its unit and every section
// its source. deploy/profiles/README.md describes the keys.
//
// Strict: a missing or unknown key, a number without a unit or with one of another kind, and a
// value out of range are INVALID_ARGUMENT with file, key, value and what is allowed. Nothing has a
// default.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "scheduler/cost/hardware_profile.h"
#include "scheduler/cost/model_profile.h"

namespace sluice {

// `where` names the file in messages.
absl::StatusOr<HardwareProfile> HardwareFromJson(const std::string& text, const std::string& where);
absl::StatusOr<ModelProfile> ModelFromJson(const std::string& text, const std::string& where);

// A file that HardwareFromJson reads back to the same numbers. Each section takes its source from
// HardwareProfile::sources ("compute.bf16", "memory", "link", ...; intervals of measured numbers go
// there too); a section without one says "not stated".
std::string HardwareToJson(const HardwareProfile& profile);

}  // namespace sluice
