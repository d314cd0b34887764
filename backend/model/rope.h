// Rotary position embedding: parsing, and the one place where an angle becomes cos and sin, so that
// every backend rotates alike.
//
// Hugging Face's convention ("rotate half"): pair i of a head is (x[i], x[i + head_dim / 2]).
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/model/model_config.h"

namespace sluice {

// Reads rope_theta and rope_scaling (kind under "rope_type" or, older, "type"), or the newer
// rope_parameters, of a config.json. `max_position_embeddings` is the file's own.
// Returns INVALID_ARGUMENT or UNIMPLEMENTED naming the field.
absl::StatusOr<RopeConfig> ParseRopeConfig(const nlohmann::json& config,
                                           int64_t max_position_embeddings,
                                           const std::string& where);

// cos[i] and sin[i] of pair i at `position`, times attention_factor. A head is rotated as
//   y[i]        = x[i] * cos[i] - x[i + half] * sin[i]
//   y[i + half] = x[i + half] * cos[i] + x[i] * sin[i].
// REQUIRES: the three spans have the same size; position >= 0.
void RopeCosSin(std::span<const double> inverse_frequencies, double attention_factor,
                int64_t position, std::span<double> cos, std::span<double> sin);

}  // namespace sluice
