#include "service/config/flag_set.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"
#include "service/config/suggest.h"

namespace sluice {
namespace {

// Wraps a setter of one value as one of all values.
std::function<absl::Status(const std::vector<std::string>&)> One(
    std::function<absl::Status(const std::string&)> set) {
  return
      [set = std::move(set)](const std::vector<std::string>& values) { return set(values.back()); };
}

Flag MakeFlag(std::string name, std::string value_name, std::string help) {
  Flag flag;
  flag.name = std::move(name);
  flag.value_name = std::move(value_name);
  flag.help = std::move(help);
  return flag;
}

absl::Status Named(const std::string& where, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", status.message()));
}

const Assignment* FindAssignment(const std::vector<Assignment>& all, const std::string& flag) {
  for (const Assignment& a : all) {
    if (a.flag == flag) return &a;
  }
  return nullptr;
}

// `text` as one word of a POSIX shell.
std::string ShellQuoted(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("-_./:,=+", c);
  });
  if (plain) return text;
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

}  // namespace

std::string KebabCase(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

Flag& FlagSet::Add(Flag flag) {
  SLUICE_CHECK(Find(flag.name) == nullptr);
  flag.group = group_;
  flags_.push_back(std::move(flag));
  return flags_.back();
}

Flag& FlagSet::AddInteger(std::string name, int64_t min, int64_t max,
                          std::function<void(int64_t)> assign, std::function<std::string()> show,
                          std::string value_name, std::string help) {
  Flag flag = MakeFlag(std::move(name), std::move(value_name), std::move(help));
  flag.set = One([=](const std::string& text) -> absl::Status {
    SLUICE_ASSIGN_OR_RETURN(const int64_t value, ParseInteger(text, min, max));
    assign(value);
    return absl::OkStatus();
  });
  flag.show = std::move(show);
  return Add(std::move(flag));
}

Flag& FlagSet::String(std::string name, std::string* target, std::string value_name,
                      std::string help) {
  Flag flag = MakeFlag(std::move(name), std::move(value_name), std::move(help));
  flag.set = One([target](const std::string& text) {
    *target = text;
    return absl::OkStatus();
  });
  flag.show = [target] { return *target; };
  flag.default_text = *target;
  return Add(std::move(flag));
}

Flag& FlagSet::Strings(std::string name, std::vector<std::string>* target, std::string value_name,
                       std::string help) {
  Flag flag = MakeFlag(std::move(name), std::move(value_name), std::move(help));
  flag.repeatable = true;
  flag.set = [target](const std::vector<std::string>& values) {
    *target = values;
    return absl::OkStatus();
  };
  flag.show = [target] { return absl::StrJoin(*target, ","); };
  return Add(std::move(flag));
}

Flag& FlagSet::Bool(std::string name, bool* target, std::string help) {
  Flag flag = MakeFlag(std::move(name), "", std::move(help));
  flag.set = One([target](const std::string& text) -> absl::Status {
    SLUICE_ASSIGN_OR_RETURN(*target, ParseBool(text));
    return absl::OkStatus();
  });
  flag.show = [target] { return *target ? "true" : "false"; };
  flag.default_text = *target ? "on" : "off";
  return Add(std::move(flag));
}

Flag& FlagSet::Choice(std::string name, std::string* target, std::vector<std::string> choices,
                      std::string help) {
  Flag flag = MakeFlag(std::move(name), absl::StrJoin(choices, "|"), std::move(help));
  flag.set = One([target, choices](const std::string& text) -> absl::Status {
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not one of ",
                                                     absl::StrJoin(choices, ", "),
                                                     DidYouMean(text, choices, "")));
    }
    *target = text;
    return absl::OkStatus();
  });
  flag.show = [target] { return *target; };
  flag.default_text = *target;
  return Add(std::move(flag));
}

Flag& FlagSet::Number(std::string name, double* target, double min, double max,
                      std::string value_name, std::string help) {
  Flag flag = MakeFlag(std::move(name), std::move(value_name), std::move(help));
  flag.set = One([=](const std::string& text) -> absl::Status {
    SLUICE_ASSIGN_OR_RETURN(*target, ParseNumber(text, min, max));
    return absl::OkStatus();
  });
  flag.show = [target] { return FormatNumber(*target); };
  flag.default_text = FormatNumber(*target);
  return Add(std::move(flag));
}

Flag& FlagSet::Number(std::string name, std::optional<double>* target, double min, double max,
                      std::string value_name, std::string help) {
  Flag flag = MakeFlag(std::move(name), std::move(value_name), std::move(help));
  flag.set = One([=](const std::string& text) -> absl::Status {
    SLUICE_ASSIGN_OR_RETURN(*target, ParseNumber(text, min, max));
    return absl::OkStatus();
  });
  flag.show = [target] { return target->has_value() ? FormatNumber(**target) : ""; };
  return Add(std::move(flag));
}

Flag& FlagSet::Unsigned(std::string name, std::optional<uint64_t>* target, std::string help) {
  Flag flag = MakeFlag(std::move(name), "N", std::move(help));
  flag.set = One([target](const std::string& text) -> absl::Status {
    SLUICE_ASSIGN_OR_RETURN(*target, ParseUnsigned(text));
    return absl::OkStatus();
  });
  flag.show = [target] { return target->has_value() ? absl::StrCat(**target) : ""; };
  return Add(std::move(flag));
}

Flag& FlagSet::Ids(std::string name, std::vector<uint32_t>* target, std::string help) {
  Flag flag = MakeFlag(std::move(name), "ID,ID,...", std::move(help));
  flag.set = One([target](const std::string& text) -> absl::Status {
    SLUICE_ASSIGN_OR_RETURN(*target, ParseTokenIds(text));
    return absl::OkStatus();
  });
  flag.show = [target] { return absl::StrJoin(*target, ","); };
  return Add(std::move(flag));
}

Flag& FlagSet::Size(std::string name, std::optional<Bytes>* target, std::string help) {
  Flag flag = MakeFlag(std::move(name), "GiB", std::move(help));
  flag.set = One([target](const std::string& text) -> absl::Status {
    SLUICE_ASSIGN_OR_RETURN(*target, ParseSize(text));
    return absl::OkStatus();
  });
  flag.show = [target] { return target->has_value() ? absl::StrCat((*target)->value(), "B") : ""; };
  return Add(std::move(flag));
}

void FlagSet::Exclusive(std::string a, std::string b) {
  exclusive_.emplace_back(std::move(a), std::move(b));
}

const Flag* FlagSet::Find(const std::string& name) const {
  const std::string kebab = KebabCase(name);
  for (const Flag& flag : flags_) {
    if (flag.name == kebab) return &flag;
    for (const std::string& alias : flag.aliases) {
      if (alias == kebab) return &flag;
    }
  }
  return nullptr;
}

std::vector<std::string> FlagSet::names() const {
  std::vector<std::string> names;
  for (const Flag& flag : flags_) {
    names.push_back(flag.name);
    names.insert(names.end(), flag.aliases.begin(), flag.aliases.end());
  }
  return names;
}

absl::Status FlagSet::CheckExclusive(const std::vector<Assignment>& assignments) const {
  for (const auto& [a, b] : exclusive_) {
    const Assignment* first = FindAssignment(assignments, a);
    const Assignment* second = FindAssignment(assignments, b);
    if (first == nullptr || second == nullptr) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(first->where, " and ", second->where, " exclude each other; give one"));
  }
  return absl::OkStatus();
}

bool FlagSet::Overridden(const Assignment& assignment, const std::vector<Assignment>& by) const {
  if (FindAssignment(by, assignment.flag) != nullptr) return true;
  for (const auto& [a, b] : exclusive_) {
    if (assignment.flag == a && FindAssignment(by, b) != nullptr) return true;
    if (assignment.flag == b && FindAssignment(by, a) != nullptr) return true;
  }
  return false;
}

absl::Status FlagSet::Apply(const std::vector<Assignment>& file,
                            const std::vector<Assignment>& line) {
  SLUICE_RETURN_IF_ERROR(CheckExclusive(file));
  SLUICE_RETURN_IF_ERROR(CheckExclusive(line));
  for (const Assignment& a : file) {
    if (Overridden(a, line)) continue;
    SLUICE_RETURN_IF_ERROR(Named(a.where, Find(a.flag)->set(a.values)));
  }
  for (const Assignment& a : line) {
    SLUICE_RETURN_IF_ERROR(Named(a.where, Find(a.flag)->set(a.values)));
  }
  for (const Flag& flag : flags_) {
    if (!flag.required || FindAssignment(file, flag.name) || FindAssignment(line, flag.name)) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat("--", flag.name, " is required: ", flag.help));
  }
  return absl::OkStatus();
}

std::string FlagSet::ToText() const {
  std::vector<std::string> parts;
  for (const Flag& flag : flags_) {
    const std::string value = flag.show();
    if (!value.empty()) parts.push_back(absl::StrCat(flag.name, "=", value));
  }
  return absl::StrJoin(parts, " ");
}

std::string FlagSet::ToCommandLine() const {
  std::vector<std::string> words;
  for (const Flag& flag : flags_) {
    const std::string value = flag.show();
    if (flag.value_name.empty()) {
      words.push_back(absl::StrCat(value == "true" ? "--" : "--no-", flag.name));
    } else if (!value.empty()) {
      words.push_back(absl::StrCat("--", flag.name, " ", ShellQuoted(value)));
    }
  }
  return absl::StrJoin(words, " ");
}

}  // namespace sluice
