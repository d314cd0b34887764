#include "service/cli/sampling_defaults.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/config/flag_values.h"

namespace sluice {
namespace {

// One optional number of generation_config.json.
template <class T>
absl::Status ReadNumber(const nlohmann::json& json, const char* field, double min, double max,
                        const std::string& path, std::optional<T>* target) {
  const auto found = json.find(field);
  if (found == json.end() || found->is_null()) return absl::OkStatus();
  if (!found->is_number() || found->get<double>() < min || found->get<double>() > max) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", field, ": ", found->dump(),
                                                   " is not a number in [", FormatNumber(min), ", ",
                                                   FormatNumber(max), "]"));
  }
  *target = found->get<T>();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SamplingDefaults> LoadSamplingDefaults(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/generation_config.json");
  SamplingDefaults defaults;
  std::ifstream file(path);
  if (!file) return defaults;
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is not a JSON object"));
  }
  SLUICE_RETURN_IF_ERROR(ReadNumber(json, "temperature", 0, 100, path, &defaults.temperature));
  SLUICE_RETURN_IF_ERROR(ReadNumber(json, "top_p", 1e-6, 1, path, &defaults.top_p));
  SLUICE_RETURN_IF_ERROR(ReadNumber(json, "top_k", 0, 1 << 30, path, &defaults.top_k));
  SLUICE_RETURN_IF_ERROR(ReadNumber(json, "min_p", 0, 1, path, &defaults.min_p));
  SLUICE_RETURN_IF_ERROR(
      ReadNumber(json, "repetition_penalty", 1e-6, 10, path, &defaults.repetition_penalty));
  return defaults;
}

}  // namespace sluice
