// LoadSamplingDefaults: what a model's generation_config.json says about sampling.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "service/grpc/request_checks.h"

namespace sluice {

// Sampling defaults of `dir`/generation_config.json; none without the file.
// Returns INVALID_ARGUMENT naming file and field if a value has the wrong type or is out of range.
absl::StatusOr<SamplingDefaults> LoadSamplingDefaults(const std::string& dir);

}  // namespace sluice
