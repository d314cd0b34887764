#include "backend/model/rope.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "backend/model/json_fields.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

using nlohmann::json;

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kMaxPositions = int64_t{1} << 30;
constexpr double kMaxFactor = 1e6;
constexpr double kMaxTheta = 1e15;

// 0.1 m ln(s) + 1 of the YaRN paper (Peng et al. 2023), section 3.4.
double YarnMscale(double scale, double mscale) {
  return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

void ReadLlama3(JsonFields& fields, RopeConfig& rope) {
  rope.factor = fields.Number("factor", std::nullopt, 1.0, kMaxFactor);
  rope.low_freq_factor = fields.Number("low_freq_factor", std::nullopt, 1e-3, kMaxFactor);
  rope.high_freq_factor = fields.Number("high_freq_factor", std::nullopt, 1e-3, kMaxFactor);
  rope.original_max_position_embeddings =
      fields.Int("original_max_position_embeddings", std::nullopt, 1, kMaxPositions);
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    fields.Fail("high_freq_factor",
                absl::StrCat(rope.high_freq_factor, " is not greater than low_freq_factor ",
                             rope.low_freq_factor));
  }
}

void ReadYarn(JsonFields& fields, int64_t max_position_embeddings, RopeConfig& rope) {
  rope.original_max_position_embeddings =
      fields.Int("original_max_position_embeddings", max_position_embeddings, 1, kMaxPositions);
  // Without a factor it is the ratio of the two lengths.
  const double ratio = static_cast<double>(max_position_embeddings) /
                       static_cast<double>(rope.original_max_position_embeddings);
  rope.factor = fields.Number("factor", std::max(ratio, 1.0), 1.0, kMaxFactor);
  rope.beta_fast = fields.Number("beta_fast", 32.0, 1e-3, kMaxFactor);
  rope.beta_slow = fields.Number("beta_slow", 1.0, 1e-3, kMaxFactor);
  if (rope.beta_fast < rope.beta_slow) {
    fields.Fail("beta_fast",
                absl::StrCat(rope.beta_fast, " is less than beta_slow ", rope.beta_slow));
  }
  if (!fields.Bool("truncate", true)) fields.Unsupported("truncate", "false is not supported");

  const double mscale = fields.Number("mscale", 0.0, 0.0, kMaxFactor);
  const double mscale_all_dim = fields.Number("mscale_all_dim", 0.0, 0.0, kMaxFactor);
  const double default_factor =
      mscale != 0 && mscale_all_dim != 0
          ? YarnMscale(rope.factor, mscale) / YarnMscale(rope.factor, mscale_all_dim)
          : YarnMscale(rope.factor, 1.0);
  rope.attention_factor = fields.Number("attention_factor", default_factor, 1e-3, kMaxFactor);
}

// Reads the kind and its parameters from a rope_scaling or rope_parameters object.
absl::Status ReadScaling(JsonFields& fields, int64_t max_position_embeddings, RopeConfig& rope) {
  const char* kind_field = fields.Has("rope_type") ? "rope_type" : "type";
  const std::string kind = fields.String(kind_field, "default");
  if (kind == "default") {
    rope.kind = RopeKind::kDefault;
  } else if (kind == "linear") {
    rope.kind = RopeKind::kLinear;
    rope.factor = fields.Number("factor", std::nullopt, 1.0, kMaxFactor);
  } else if (kind == "llama3") {
    rope.kind = RopeKind::kLlama3;
    ReadLlama3(fields, rope);
  } else if (kind == "yarn") {
    rope.kind = RopeKind::kYarn;
    ReadYarn(fields, max_position_embeddings, rope);
  } else if (fields.status().ok()) {
    fields.Unsupported(kind_field, absl::StrCat(DescribeJson(kind),
                                                " is not supported; supported are default, "
                                                "linear, llama3, yarn"));
  }
  return fields.status();
}

// The object called `name`, or null if it is absent.
absl::StatusOr<const json*> FindObject(JsonFields& fields, const char* name) {
  const json* value = fields.Find(name);
  if (value != nullptr && !value->is_object()) {
    fields.Fail(name, absl::StrCat(DescribeJson(*value), " is not an object"));
  }
  SLUICE_RETURN_IF_ERROR(fields.status());
  return value;
}

double ReadTheta(JsonFields& fields, double fallback) {
  // Above 1: yarn divides by its logarithm.
  return fields.Number("rope_theta", fallback, 1.0 + 1e-6, kMaxTheta);
}

absl::Status CheckPartialRotary(JsonFields& fields) {
  const double part = fields.Number("partial_rotary_factor", 1.0, 0.0, 1.0);
  if (part != 1.0) {
    fields.Unsupported("partial_rotary_factor", absl::StrCat(part, " is not supported, only 1"));
  }
  return fields.status();
}

void ScaleLlama3(const RopeConfig& rope, std::vector<double>& frequencies) {
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  for (double& f : frequencies) {
    const double wavelength = 2 * kPi / f;
    if (wavelength < original / rope.high_freq_factor) continue;
    if (wavelength > original / rope.low_freq_factor) {
      f /= rope.factor;
      continue;
    }
    const double smooth = (original / wavelength - rope.low_freq_factor) /
                          (rope.high_freq_factor - rope.low_freq_factor);
    f = (1 - smooth) * f / rope.factor + smooth * f;
  }
}

// The (fractional) pair that turns `rotations` times over `positions`.
double YarnCorrectionDim(double rotations, double dim, double theta, double positions) {
  return dim * std::log(positions / (rotations * 2 * kPi)) / (2 * std::log(theta));
}

void ScaleYarn(const RopeConfig& rope, int32_t head_dim, int64_t max_position_embeddings,
               std::vector<double>& frequencies) {
  const auto original = static_cast<double>(rope.original_max_position_embeddings > 0
                                                ? rope.original_max_position_embeddings
                                                : max_position_embeddings);
  const double dim = head_dim;
  const double low =
      std::max(std::floor(YarnCorrectionDim(rope.beta_fast, dim, rope.theta, original)), 0.0);
  double high =
      std::min(std::ceil(YarnCorrectionDim(rope.beta_slow, dim, rope.theta, original)), dim - 1);
  if (low == high) high += 0.001;  // as Hugging Face does, against division by zero
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / rope.factor * ramp + frequencies[i] * (1 - ramp);
  }
}

}  // namespace

absl::StatusOr<RopeConfig> ParseRopeConfig(const json& config, int64_t max_position_embeddings,
                                           const std::string& where) {
  RopeConfig rope;
  JsonFields top(config, where);
  rope.theta = ReadTheta(top, rope.theta);
  SLUICE_RETURN_IF_ERROR(CheckPartialRotary(top));
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    SLUICE_ASSIGN_OR_RETURN(const json* object, FindObject(top, name));
    if (object == nullptr) continue;
    JsonFields fields(*object, where, absl::StrCat(name, "."));
    for (const auto& [key, value] : object->items()) {
      if (value.is_object()) {
        fields.Unsupported(key.c_str(), "parameters per layer type are not supported");
      }
    }
    rope.theta = ReadTheta(fields, rope.theta);
    SLUICE_RETURN_IF_ERROR(CheckPartialRotary(fields));
    SLUICE_RETURN_IF_ERROR(ReadScaling(fields, max_position_embeddings, rope));
  }
  return rope;
}

std::vector<double> RopeInverseFrequencies(const RopeConfig& rope, int32_t head_dim,
                                           int64_t max_position_embeddings) {
  SLUICE_CHECK(head_dim > 0 && head_dim % 2 == 0);
  std::vector<double> frequencies(static_cast<size_t>(head_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(rope.theta, -2.0 * static_cast<double>(i) / head_dim);
  }
  switch (rope.kind) {
    case RopeKind::kDefault:
      break;
    case RopeKind::kLinear:
      for (double& f : frequencies) f /= rope.factor;
      break;
    case RopeKind::kLlama3:
      ScaleLlama3(rope, frequencies);
      break;
    case RopeKind::kYarn:
      ScaleYarn(rope, head_dim, max_position_embeddings, frequencies);
      break;
  }
  return frequencies;
}

void RopeCosSin(std::span<const double> inverse_frequencies, double attention_factor,
                int64_t position, std::span<double> cos, std::span<double> sin) {
  SLUICE_CHECK(cos.size() == inverse_frequencies.size());
  SLUICE_CHECK(sin.size() == inverse_frequencies.size());
  for (size_t i = 0; i < inverse_frequencies.size(); ++i) {
    const double angle = static_cast<double>(position) * inverse_frequencies[i];
    cos[i] = std::cos(angle) * attention_factor;
    sin[i] = std::sin(angle) * attention_factor;
  }
}

}  // namespace sluice
