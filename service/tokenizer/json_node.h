// A value of a parsed JSON file together with its place, for errors like
// "models/x/tokenizer.json: model.merges[3]: ...".
//
// Not thread-safe; used while a tokenizer loads. Points into the document, which must outlive it.
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

class JsonNode {
 public:
  // `where`: the file's name.
  JsonNode(const nlohmann::json& root, std::string where);

  bool is_null() const { return value_->is_null(); }
  const nlohmann::json& value() const { return *value_; }

  // The member `key`. Returns INVALID_ARGUMENT if this is no object or the member is missing.
  absl::StatusOr<JsonNode> Get(std::string_view key) const;
  // Nothing if the member is missing or null, or this is no object.
  std::optional<JsonNode> Find(std::string_view key) const;
  // The elements. Returns INVALID_ARGUMENT if this is no array.
  absl::StatusOr<std::vector<JsonNode>> Elements() const;

  // Return INVALID_ARGUMENT if a member has another type; the `Or` forms take a default for a
  // member that is missing or null.
  absl::StatusOr<std::string> String(std::string_view key) const;
  absl::StatusOr<bool> BoolOr(std::string_view key, bool otherwise) const;
  absl::StatusOr<int64_t> Int(std::string_view key) const;
  // The member "type", which every component has.
  absl::StatusOr<std::string> Type() const { return String("type"); }

  // Errors that name this place.
  absl::Status Invalid(std::string_view problem) const;
  absl::Status Unimplemented(std::string_view component) const;
  // Adds this place to an error of a callee that does not know it.
  absl::Status Annotate(const absl::Status& status) const;

 private:
  JsonNode(const nlohmann::json* value, std::string where, std::string path);
  std::string Place() const;

  const nlohmann::json* value_;
  std::string where_;
  std::string path_;  // "model.merges[3]"; empty for the root
};

}  // namespace sluice
