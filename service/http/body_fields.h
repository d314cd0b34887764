// BodyFields: the members of one object of a request, by name and type, with errors that name the
// field: "messages[2].role: is a number, not a string".
//
// A member that is null counts as missing, as clients send it for defaults.
//
// Not thread-safe. Points into the document, which must outlive it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice {

// Parses the body of a request.
// Returns INVALID_ARGUMENT if it is not JSON, not an object, or nested more than 64 deep.
absl::StatusOr<nlohmann::json> ParseJsonBody(std::string_view body);

class BodyFields {
 public:
  // `path`: how errors call the object ("messages[2]"); empty for the whole request.
  // REQUIRES: `object` is an object.
  BodyFields(const nlohmann::json& object, std::string path)
      : object_(object), path_(std::move(path)) {}

  // The member, or null if it is missing or null.
  const nlohmann::json* Find(const char* name) const;

  // Return INVALID_ARGUMENT if the member has another type. Whole floats are integers.
  absl::StatusOr<std::optional<std::string>> String(const char* name) const;
  absl::StatusOr<std::optional<bool>> Bool(const char* name) const;
  absl::StatusOr<std::optional<double>> Number(const char* name) const;
  absl::StatusOr<std::optional<int64_t>> Integer(const char* name) const;
  // An integer in [low, high].
  absl::StatusOr<std::optional<int64_t>> Integer(const char* name, int64_t low, int64_t high) const;
  // Token ids.
  absl::StatusOr<std::vector<uint32_t>> Ids(const char* name) const;

  // "path.name", and an INVALID_ARGUMENT that begins with it.
  std::string Path(std::string_view name) const;
  absl::Status Invalid(std::string_view name, std::string_view problem) const;

 private:
  absl::Status WrongType(const char* name, const char* wanted) const;

  const nlohmann::json& object_;
  const std::string path_;
};

// An array of token ids. Returns INVALID_ARGUMENT, beginning with `path`, if it is something else.
absl::StatusOr<std::vector<uint32_t>> ReadTokenIds(const nlohmann::json& value,
                                                   const std::string& path);

// "a string", "a number", ...: for messages.
const char* JsonTypeName(const nlohmann::json& value);

}  // namespace sluice
