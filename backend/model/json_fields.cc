#include "backend/model/json_fields.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

namespace sluice {

using nlohmann::json;

absl::StatusOr<json> ParseJsonObject(const std::string& text, const std::string& where,
                                     bool unique_keys) {
  std::set<std::string> seen;
  std::string twice;
  const auto watch_keys = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth == 1 && event == json::parse_event_t::key) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!seen.insert(key).second) twice = key;
    }
    return true;
  };
  try {
    json value = unique_keys ? json::parse(text, watch_keys) : json::parse(text);
    if (!value.is_object()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": is not a JSON object but ", DescribeJson(value)));
    }
    if (!twice.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": key \"", twice, "\" comes twice"));
    }
    return value;
  } catch (const json::parse_error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": not valid JSON at byte ", error.byte, ": ", error.what()));
  } catch (const json::exception& error) {  // a number out of range
    return absl::InvalidArgumentError(absl::StrCat(where, ": not valid JSON: ", error.what()));
  }
}

std::string DescribeJson(const json& value) {
  if (value.is_array()) return value.empty() ? "an empty array" : "an array";
  if (value.is_object()) return "an object";
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > 60) text = absl::StrCat(text.substr(0, 57), "...");
  return text;
}

JsonFields::JsonFields(const json& object, std::string where, std::string prefix)
    : object_(object), where_(std::move(where)), prefix_(std::move(prefix)) {
  SLUICE_CHECK(object_.is_object());
}

const json* JsonFields::Find(const char* name) const {
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::string JsonFields::Place(const char* name) const {
  return absl::StrCat(where_, ": ", prefix_, name);
}

void JsonFields::Fail(const char* name, const std::string& message) {
  if (status_.ok()) {
    status_ = absl::InvalidArgumentError(absl::StrCat(Place(name), ": ", message));
  }
}

void JsonFields::Unsupported(const char* name, const std::string& message) {
  if (status_.ok()) status_ = absl::UnimplementedError(absl::StrCat(Place(name), ": ", message));
}

int64_t JsonFields::CheckedInt(const char* name, const json& value, int64_t min, int64_t max) {
  if (!value.is_number_integer()) {
    Fail(name, absl::StrCat(DescribeJson(value), " is not an integer"));
    return min;
  }
  const bool too_large = value.is_number_unsigned() &&
                         value.get<uint64_t>() > static_cast<uint64_t>(max > 0 ? max : 0);
  const int64_t number = too_large ? max : value.get<int64_t>();
  if (too_large || number < min || number > max) {
    Fail(name, absl::StrCat(DescribeJson(value), " is not in [", min, ", ", max, "]"));
    return min;
  }
  return number;
}

int64_t JsonFields::Int(const char* name, std::optional<int64_t> fallback, int64_t min,
                        int64_t max) {
  const json* value = Find(name);
  if (value != nullptr) return CheckedInt(name, *value, min, max);
  if (!fallback) Fail(name, "is missing");
  return fallback.value_or(min);
}

double JsonFields::Number(const char* name, std::optional<double> fallback, double min,
                          double max) {
  const json* value = Find(name);
  if (value == nullptr) {
    if (!fallback) Fail(name, "is missing");
    return fallback.value_or(min);
  }
  if (!value->is_number()) {
    Fail(name, absl::StrCat(DescribeJson(*value), " is not a number"));
    return min;
  }
  const double number = value->get<double>();
  if (!(number >= min && number <= max)) {
    Fail(name, absl::StrCat(DescribeJson(*value), " is not in [", min, ", ", max, "]"));
    return min;
  }
  return number;
}

bool JsonFields::Bool(const char* name, bool fallback) {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    Fail(name, absl::StrCat(DescribeJson(*value), " is not true or false"));
    return fallback;
  }
  return value->get<bool>();
}

std::string JsonFields::String(const char* name, std::optional<std::string> fallback) {
  const json* value = Find(name);
  if (value == nullptr) {
    if (!fallback) Fail(name, "is missing");
    return fallback.value_or("");
  }
  if (!value->is_string()) {
    Fail(name, absl::StrCat(DescribeJson(*value), " is not a string"));
    return "";
  }
  return value->get<std::string>();
}

std::vector<int64_t> JsonFields::IntOrList(const char* name, int64_t min, int64_t max) {
  std::vector<int64_t> out;
  const json* value = Find(name);
  if (value == nullptr) return out;
  if (!value->is_array()) {
    out.push_back(CheckedInt(name, *value, min, max));
    return out;
  }
  for (const json& item : *value) out.push_back(CheckedInt(name, item, min, max));
  return out;
}

}  // namespace sluice
