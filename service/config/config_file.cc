#include "service/config/config_file.h"

#include <yaml-cpp/yaml.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/config/suggest.h"

namespace sluice {
namespace {

std::string At(const std::string& where, const YAML::Mark& mark) {
  return absl::StrCat(where, ":", mark.line + 1);
}

absl::StatusOr<std::string> ScalarText(const YAML::Node& node, const std::string& where) {
  if (node.IsScalar()) return node.Scalar();
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": ", node.IsNull() ? "has no value" : "is not a single value",
                   "; remove the key or give it one"));
}

absl::StatusOr<Assignment> ReadEntry(const YAML::Node& key, const YAML::Node& value,
                                     const std::string& where, const FlagSet& flags) {
  const std::string line = At(where, key.Mark());
  SLUICE_ASSIGN_OR_RETURN(const std::string name, ScalarText(key, absl::StrCat(line, ": key")));
  const Flag* flag = flags.Find(name);
  if (flag == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(line, ": unknown key \"", name, "\"",
                                                   DidYouMean(KebabCase(name), flags.names(), "")));
  }
  Assignment result{flag->name, {}, absl::StrCat(line, ": ", name)};
  if (value.IsSequence() && flag->repeatable) {
    for (const YAML::Node& item : value) {
      SLUICE_ASSIGN_OR_RETURN(std::string text, ScalarText(item, result.where));
      result.values.push_back(std::move(text));
    }
    return result;
  }
  SLUICE_ASSIGN_OR_RETURN(std::string text, ScalarText(value, result.where));
  result.values.push_back(std::move(text));
  return result;
}

absl::StatusOr<std::vector<Assignment>> ReadMapping(const YAML::Node& root,
                                                    const std::string& where,
                                                    const FlagSet& flags) {
  std::vector<Assignment> assignments;
  if (!root.IsDefined() || root.IsNull()) return assignments;  // an empty file sets nothing
  if (!root.IsMap()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": is not a mapping; write one \"key: value\" per line"));
  }
  for (const auto& entry : root) {
    SLUICE_ASSIGN_OR_RETURN(Assignment a, ReadEntry(entry.first, entry.second, where, flags));
    for (const Assignment& earlier : assignments) {
      if (earlier.flag != a.flag) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(a.where, ": was already set at ", earlier.where, "; keep one"));
    }
    assignments.push_back(std::move(a));
  }
  return assignments;
}

}  // namespace

absl::StatusOr<std::vector<Assignment>> ParseConfigText(const std::string& text,
                                                        const std::string& where,
                                                        const FlagSet& flags) {
  try {
    return ReadMapping(YAML::Load(text), where, flags);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(At(where, error.mark), ": is not valid YAML: ", error.msg));
  }
}

absl::StatusOr<std::vector<Assignment>> LoadConfigFile(const std::string& path,
                                                       const FlagSet& flags) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!(file && text << file.rdbuf())) {
    return absl::NotFoundError(
        absl::StrCat("--config: ", path, ": cannot be read (or is empty); check the path"));
  }
  return ParseConfigText(text.str(), path, flags);
}

}  // namespace sluice
