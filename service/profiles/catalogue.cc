#include "service/profiles/catalogue.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "scheduler/base/status_macros.h"
#include "service/config/suggest.h"
#include "service/profiles/built_in.h"
#include "service/profiles/model_config_profile.h"
#include "service/profiles/profile_files.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr char kModels[] = "models";
constexpr char kHardware[] = "hardware";

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  if (fs::is_directory(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is a directory, want a file"));
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(in), {});
  if (in.bad() || !in.is_open()) {
    return absl::PermissionDeniedError(absl::StrCat(path, ": cannot be read"));
  }
  return text;
}

absl::StatusOr<std::vector<std::string>> JsonFiles(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path().string());
  }
  if (error) {
    return absl::PermissionDeniedError(
        absl::StrCat(folder.string(), ": cannot be read: ", error.message()));
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool IsPath(const std::string& name) {
  return absl::StrContains(name, '/') || absl::EndsWith(name, ".json");
}

// A Hugging Face file says model_type; ours never does.
bool IsModelConfig(const std::string& path, const std::string& text) {
  return fs::path(path).filename() == "config.json" || absl::StrContains(text, "\"model_type\"");
}

template <typename Profile>
absl::Status UnknownName(absl::string_view what, const std::string& name,
                         const std::map<std::string, Profile>& known) {
  std::vector<std::string> names;
  for (const auto& [key, value] : known) names.push_back(key);
  return absl::NotFoundError(
      absl::StrCat(what, " \"", name, "\" is not known", DidYouMean(name, names, ""),
                   "; known: ", names.empty() ? "none" : names.front(),
                   names.size() < 2 ? "" : absl::StrCat(" and ", names.size() - 1, " more"),
                   "; `sluice plan --list` shows all, and a path to a file works too"));
}

}  // namespace

absl::StatusOr<Catalogue> Catalogue::Load(const std::vector<std::string>& directories) {
  Catalogue catalogue;
  SLUICE_RETURN_IF_ERROR(catalogue.AddBuiltIn());
  for (const std::string& directory : directories) {
    SLUICE_RETURN_IF_ERROR(catalogue.AddDirectory(directory));
  }
  return catalogue;
}

absl::Status Catalogue::AddBuiltIn() {
  for (const BuiltInFile& file : BuiltInProfiles()) {
    const std::string where = absl::StrCat("built-in ", file.path);
    const bool model = absl::StartsWith(file.path, kModels);
    SLUICE_RETURN_IF_ERROR(model ? AddModel(file.text, where) : AddHardware(file.text, where));
  }
  return absl::OkStatus();
}

absl::Status Catalogue::AddDirectory(const std::string& directory) {
  bool any = false;
  for (const bool model : {true, false}) {
    const fs::path folder = fs::path(directory) / (model ? kModels : kHardware);
    std::error_code error;
    if (!fs::is_directory(folder, error)) continue;
    any = true;
    SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> files, JsonFiles(folder));
    for (const std::string& file : files) {
      SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadFile(file));
      SLUICE_RETURN_IF_ERROR(model ? AddModel(text, file) : AddHardware(text, file));
    }
  }
  if (any) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat(directory, ": has neither a models nor a hardware folder of profiles"));
}

absl::Status Catalogue::AddModel(const std::string& text, const std::string& where) {
  SLUICE_ASSIGN_OR_RETURN(ModelProfile model, ModelFromJson(text, where));
  models_.insert_or_assign(model.name, std::move(model));
  return absl::OkStatus();
}

absl::Status Catalogue::AddHardware(const std::string& text, const std::string& where) {
  SLUICE_ASSIGN_OR_RETURN(HardwareProfile hardware, HardwareFromJson(text, where));
  hardware_.insert_or_assign(hardware.name, std::move(hardware));
  return absl::OkStatus();
}

absl::StatusOr<ModelProfile> Catalogue::FindModel(const std::string& name_or_path) const {
  if (const auto it = models_.find(name_or_path); it != models_.end()) return it->second;
  std::error_code error;
  std::string path = name_or_path;
  if (fs::is_directory(path, error)) {
    path = (fs::path(path) / "config.json").string();
  } else if (!IsPath(path)) {
    return UnknownName("model", name_or_path, models_);
  }
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return IsModelConfig(path, text) ? ModelFromConfigJson(text, path) : ModelFromJson(text, path);
}

absl::StatusOr<HardwareProfile> Catalogue::FindHardware(const std::string& name_or_path) const {
  if (const auto it = hardware_.find(name_or_path); it != hardware_.end()) return it->second;
  if (!IsPath(name_or_path)) return UnknownName("hardware", name_or_path, hardware_);
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadFile(name_or_path));
  return HardwareFromJson(text, name_or_path);
}

}  // namespace sluice
