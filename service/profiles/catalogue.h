// Catalogue: models and hardware by name. The built-in profiles are the files of deploy/profiles,
// embedded, so that the binary stands alone; further directories add profiles or replace built-in
// ones of the same name.
//
// A name may also be a path: to a profile file, to a Hugging Face config.json, or to a directory
// with one. Anything with a slash, or ending in .json, is a path.
//
// Immutable after Load, hence thread-safe.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/cost/hardware_profile.h"
#include "scheduler/cost/model_profile.h"

namespace sluice {

class Catalogue {
 public:
  // Reads the built-in profiles, then DIR/models/*.json and DIR/hardware/*.json of each directory
  // in order; a later profile replaces an earlier one of the same name.
  // Returns NOT_FOUND for a directory without either folder, INVALID_ARGUMENT naming file, key and
  // value for a bad file.
  static absl::StatusOr<Catalogue> Load(const std::vector<std::string>& directories = {});

  // Returns NOT_FOUND with the nearest name and how to list all.
  absl::StatusOr<ModelProfile> FindModel(const std::string& name_or_path) const;
  absl::StatusOr<HardwareProfile> FindHardware(const std::string& name_or_path) const;

  // By name, sorted.
  const std::map<std::string, ModelProfile>& models() const { return models_; }
  const std::map<std::string, HardwareProfile>& hardware() const { return hardware_; }

 private:
  absl::Status AddBuiltIn();
  absl::Status AddDirectory(const std::string& directory);
  absl::Status AddModel(const std::string& text, const std::string& where);
  absl::Status AddHardware(const std::string& text, const std::string& where);

  std::map<std::string, ModelProfile> models_;
  std::map<std::string, HardwareProfile> hardware_;
};

}  // namespace sluice
