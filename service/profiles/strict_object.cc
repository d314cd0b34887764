#include "service/profiles/strict_object.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/model/json_fields.h"
#include "scheduler/base/check.h"
#include "service/config/suggest.h"

namespace sluice {

using nlohmann::json;

StrictObject::StrictObject(const json& object, const std::string& where, absl::Status& status,
                           std::string prefix)
    : object_(object), where_(where), status_(status), prefix_(std::move(prefix)) {
  SLUICE_CHECK(object_.is_object());
}

void StrictObject::Fail(const std::string& key, const std::string& message) {
  if (!status_.ok()) return;
  status_ = absl::InvalidArgumentError(absl::StrCat(where_, ": ", prefix_, key, ": ", message));
}

const json* StrictObject::Find(const char* key) {
  asked_.insert(key);
  const auto it = object_.find(key);
  return it == object_.end() ? nullptr : &*it;
}

std::string StrictObject::String(const char* key) {
  const json* value = Find(key);
  if (value == nullptr) {
    Fail(key, "is missing");
  } else if (!value->is_string() || value->get_ref<const std::string&>().empty()) {
    Fail(key, absl::StrCat(DescribeJson(*value), " is not a text"));
  } else {
    return value->get<std::string>();
  }
  return "";
}

int64_t StrictObject::Int(const char* key, int64_t min, int64_t max) {
  const json* value = Find(key);
  if (value == nullptr) {
    Fail(key, "is missing");
    return min;
  }
  const bool whole = value->is_number_integer() &&
                     !(value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX);
  if (!whole || value->get<int64_t>() < min || value->get<int64_t>() > max) {
    Fail(key, absl::StrCat(DescribeJson(*value), " is not an integer in [", min, ", ", max, "]"));
    return min;
  }
  return value->get<int64_t>();
}

double StrictObject::ReadQuantity(const char* key, const json& value, UnitKind kind) {
  if (!value.is_string()) {
    Fail(key, absl::StrCat(DescribeJson(value), value.is_number() ? " has no unit" : " is no text",
                           "; want a text: a number, a space and one of ", UnitNames(kind)));
    return 0;
  }
  const absl::StatusOr<double> number = ParseQuantity(value.get_ref<const std::string&>(), kind);
  if (!number.ok()) {
    Fail(key, std::string(number.status().message()));
    return 0;
  }
  if (*number < 0) Fail(key, absl::StrCat(DescribeJson(value), " is negative"));
  return *number;
}

double StrictObject::Quantity(const char* key, UnitKind kind) {
  const json* value = Find(key);
  if (value != nullptr) return ReadQuantity(key, *value, kind);
  Fail(key, absl::StrCat("is missing; want a number, a space and one of ", UnitNames(kind)));
  return 0;
}

double StrictObject::QuantityOrNone(const char* key, UnitKind kind) {
  const json* value = Find(key);
  if (value != nullptr) return *value == "none" ? 0 : ReadQuantity(key, *value, kind);
  Fail(key, absl::StrCat("is missing; want \"none\", or a number, a space and one of ",
                         UnitNames(kind)));
  return 0;
}

const json* StrictObject::Object(const char* key, Presence presence) {
  const json* value = Find(key);
  if (value == nullptr) {
    if (presence == Presence::kOrNone) Fail(key, "is missing; want an object or \"none\"");
    if (presence == Presence::kRequired) Fail(key, "is missing; want an object");
    return nullptr;
  }
  if (value->is_object()) return value;
  if (presence == Presence::kOrNone && *value == "none") return nullptr;
  Fail(key, absl::StrCat(DescribeJson(*value), " is not an object",
                         presence == Presence::kOrNone ? " or \"none\"" : ""));
  return nullptr;
}

StrictObject StrictObject::Nested(const json& object, const char* key) {
  return StrictObject(object, where_, status_, absl::StrCat(prefix_, key, "."));
}

void StrictObject::RejectUnknown() {
  for (const auto& [key, value] : object_.items()) {
    if (asked_.count(key) > 0) continue;
    const std::vector<std::string> known(asked_.begin(), asked_.end());
    Fail(key, absl::StrCat("is not a known key", DidYouMean(key, known, prefix_)));
  }
}

}  // namespace sluice
