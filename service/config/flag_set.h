// FlagSet: the settings of one command, each with its name, default, unit, limits and a place to
// put the value. The command line and the configuration file both go through it, so a setting has
// one name, one check and one error text wherever it comes from.
//
// Names are kebab-case ("max-model-len"); snake_case is accepted on input. Targets are written by
// Set() only, and must outlive the FlagSet.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/units.h"
#include "service/config/flag_values.h"

namespace sluice {

struct Flag {
  std::string name;                  // without dashes
  std::vector<std::string> aliases;  // accepted, not shown
  std::string group;                 // heading in the help
  std::string value_name;            // "N", "GiB"; empty: a boolean, --name and --no-name
  std::string help;                  // what it does, with the unit
  std::string default_text;          // empty: none to show
  bool repeatable = false;           // may be given several times; all values count
  bool required = false;

  // Takes all values given by one source, at least one (exactly one unless repeatable).
  std::function<absl::Status(const std::vector<std::string>&)> set;
  // The current value as text, for logs.
  std::function<std::string()> show;

  // Shows `text` as the default.
  void Default(std::string text) { default_text = std::move(text); }
};

// Values for one flag, from one source.
struct Assignment {
  std::string flag;
  std::vector<std::string> values;
  std::string where;  // how messages call it: "--port" or "sluice.yaml:3: port"
};

class FlagSet {
 public:
  // Flags defined from now on appear under `title`.
  void Group(std::string title) { group_ = std::move(title); }

  // Each returns the new flag, for the rare change (aliases, another default text).
  Flag& String(std::string name, std::string* target, std::string value_name, std::string help);
  Flag& Strings(std::string name, std::vector<std::string>* target, std::string value_name,
                std::string help);
  Flag& Bool(std::string name, bool* target, std::string help);
  Flag& Choice(std::string name, std::string* target, std::vector<std::string> choices,
               std::string help);
  Flag& Number(std::string name, double* target, double min, double max, std::string value_name,
               std::string help);
  Flag& Number(std::string name, std::optional<double>* target, double min, double max,
               std::string value_name, std::string help);
  Flag& Unsigned(std::string name, std::optional<uint64_t>* target, std::string help);
  Flag& Ids(std::string name, std::vector<uint32_t>* target, std::string help);
  Flag& Size(std::string name, std::optional<Bytes>* target, std::string help);

  // T: an integer type, or Tokens, Blocks.
  template <class T>
  Flag& Integer(std::string name, T* target, int64_t min, int64_t max, std::string value_name,
                std::string help) {
    Flag& flag = AddInteger(
        std::move(name), min, max, [target](int64_t v) { *target = T(v); },
        [target] { return absl::StrCat(Plain(*target)); }, std::move(value_name), std::move(help));
    flag.default_text = flag.show();
    return flag;
  }
  // Unset: no default to show.
  template <class T>
  Flag& Integer(std::string name, std::optional<T>* target, int64_t min, int64_t max,
                std::string value_name, std::string help) {
    return AddInteger(
        std::move(name), min, max, [target](int64_t v) { *target = T(v); },
        [target] { return target->has_value() ? absl::StrCat(Plain(**target)) : ""; },
        std::move(value_name), std::move(help));
  }

  Flag& Add(Flag flag);

  // At most one of the two may be set by one source; a flag of a stronger source (the command line)
  // replaces the other's value from a weaker one (the file).
  void Exclusive(std::string a, std::string b);

  // Applies the file's assignments, then the command line's. Returns INVALID_ARGUMENT naming flag,
  // value, limit; also if a required flag is missing or two exclude each other.
  // REQUIRES: every assignment names a flag of this set.
  absl::Status Apply(const std::vector<Assignment>& file, const std::vector<Assignment>& line);

  // By name or alias, kebab-case or snake_case; null if there is none.
  const Flag* Find(const std::string& name) const;

  const std::vector<Flag>& flags() const { return flags_; }
  std::vector<std::string> names() const;

  // "name=value name=value", in order of definition; unset ones are left out.
  std::string ToText() const;
  // "--name value --switch --no-switch", quoted for a shell: what to type to get the same settings.
  std::string ToCommandLine() const;

 private:
  template <class T>
  static int64_t Plain(T value) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<int64_t>(value);
    } else {
      return value.value();
    }
  }
  Flag& AddInteger(std::string name, int64_t min, int64_t max, std::function<void(int64_t)> assign,
                   std::function<std::string()> show, std::string value_name, std::string help);
  absl::Status CheckExclusive(const std::vector<Assignment>& assignments) const;
  bool Overridden(const Assignment& assignment, const std::vector<Assignment>& by) const;

  std::string group_ = "Options";
  std::vector<Flag> flags_;
  std::vector<std::pair<std::string, std::string>> exclusive_;
};

// "max_model_len" -> "max-model-len".
std::string KebabCase(std::string name);

}  // namespace sluice
