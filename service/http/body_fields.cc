#include "service/http/body_fields.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

constexpr int kMaxDepth = 64;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// Looked at before parsing, because what is parsed is also copied and freed recursively.
bool TooDeep(std::string_view body) {
  int depth = 0;
  bool inside_string = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (inside_string) {
      if (c == '\\') ++i;
      if (c == '"') inside_string = false;
    } else if (c == '"') {
      inside_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonBody(std::string_view body) {
  if (body.empty()) return absl::InvalidArgumentError("the body is empty; send a JSON object");
  if (TooDeep(body)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the body is nested more than ", kMaxDepth, " deep"));
  }
  try {
    nlohmann::json json = nlohmann::json::parse(body);
    if (json.is_object()) return json;
    return absl::InvalidArgumentError(
        absl::StrCat("the body is ", JsonTypeName(json), ", not a JSON object"));
  } catch (const nlohmann::json::exception& e) {
    std::string why = e.what();  // "[json.exception.parse_error.101] parse error at line 1, ..."
    if (const size_t end = why.find("] "); end != std::string::npos) why.erase(0, end + 2);
    // What the parser last read may be long; the place says enough.
    if (why.size() > 200) why = absl::StrCat(why.substr(0, 200), "...");
    return absl::InvalidArgumentError(absl::StrCat("the body is not JSON: ", why));
  }
}

const char* JsonTypeName(const nlohmann::json& value) {
  switch (value.type()) {
    case nlohmann::json::value_t::null:
      return "null";
    case nlohmann::json::value_t::boolean:
      return "a boolean";
    case nlohmann::json::value_t::string:
      return "a string";
    case nlohmann::json::value_t::array:
      return "an array";
    case nlohmann::json::value_t::object:
      return "an object";
    default:
      return "a number";
  }
}

const nlohmann::json* BodyFields::Find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::string BodyFields::Path(std::string_view name) const {
  return path_.empty() ? std::string(name) : absl::StrCat(path_, ".", View(name));
}

absl::Status BodyFields::Invalid(std::string_view name, std::string_view problem) const {
  return absl::InvalidArgumentError(absl::StrCat(Path(name), ": ", View(problem)));
}

absl::Status BodyFields::WrongType(const char* name, const char* wanted) const {
  return Invalid(name, absl::StrCat("is ", JsonTypeName(*Find(name)), ", not ", wanted));
}

absl::StatusOr<std::optional<std::string>> BodyFields::String(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return WrongType(name, "a string");
  return std::optional(value->get<std::string>());
}

absl::StatusOr<std::optional<bool>> BodyFields::Bool(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_boolean()) return WrongType(name, "a boolean");
  return std::optional(value->get<bool>());
}

absl::StatusOr<std::optional<double>> BodyFields::Number(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::optional<double>();
  if (!value->is_number()) return WrongType(name, "a number");
  return std::optional(value->get<double>());
}

absl::StatusOr<std::optional<int64_t>> BodyFields::Integer(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::optional<int64_t>();
  if (!value->is_number()) return WrongType(name, "an integer");
  if (value->is_number_float()) {
    const double number = value->get<double>();
    if (number != std::floor(number) || std::fabs(number) > 9e15) {
      return Invalid(name, absl::StrCat(value->dump(), " is not an integer"));
    }
    return std::optional(static_cast<int64_t>(number));
  }
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return Invalid(name, absl::StrCat(value->dump(), " is too large"));
  }
  return std::optional(value->get<int64_t>());
}

absl::StatusOr<std::optional<int64_t>> BodyFields::Integer(const char* name, int64_t low,
                                                           int64_t high) const {
  absl::StatusOr<std::optional<int64_t>> value = Integer(name);
  if (value.ok() && value->has_value() && (**value < low || **value > high)) {
    return Invalid(name, absl::StrCat(**value, " is not in [", low, ", ", high, "]"));
  }
  return value;
}

absl::StatusOr<std::vector<uint32_t>> BodyFields::Ids(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::vector<uint32_t>();
  return ReadTokenIds(*value, Path(name));
}

absl::StatusOr<std::vector<uint32_t>> ReadTokenIds(const nlohmann::json& value,
                                                   const std::string& path) {
  if (!value.is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is ", JsonTypeName(value), ", not an array of token ids"));
  }
  std::vector<uint32_t> ids;
  ids.reserve(value.size());
  for (const nlohmann::json& id : value) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > UINT32_MAX) {
      return absl::InvalidArgumentError(absl::StrCat(path, "[", ids.size(), "]: is ",
                                                     id.is_number() ? id.dump() : JsonTypeName(id),
                                                     ", not a token id"));
    }
    ids.push_back(id.get<uint32_t>());
  }
  return ids;
}

}  // namespace sluice
