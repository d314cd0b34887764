// JsonFields reads named fields of a JSON object that came from outside, and remembers the first
// thing wrong with them. Readers return a harmless value once something is wrong, so a parser reads
// all its fields in a row and looks at status() at the end.
//
// A field that is null counts as absent, as Hugging Face writes None.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice {

// Parses `text` as one JSON object. Returns INVALID_ARGUMENT with `where` and the position of a
// syntax error. With `unique_keys`, a key that comes twice in the top object is an error too.
absl::StatusOr<nlohmann::json> ParseJsonObject(const std::string& text, const std::string& where,
                                               bool unique_keys = false);

// `value` as it stands in a message: scalars as JSON (cut at 60 characters), "an array", "an
// object". Never recurses, so that hostile nesting is harmless.
std::string DescribeJson(const nlohmann::json& value);

class JsonFields {
 public:
  // `where` comes first in every message ("/m/config.json"), then the field's name with `prefix`
  // ("rope_scaling.") before it. Borrows `object`.
  // REQUIRES: object.is_object().
  JsonFields(const nlohmann::json& object, std::string where, std::string prefix = "");

  // The field's value, or null if it is absent.
  const nlohmann::json* Find(const char* name) const;
  bool Has(const char* name) const { return Find(name) != nullptr; }

  // Wrong: of another type; not in [min, max]; absent and no fallback (nullopt) given.
  int64_t Int(const char* name, std::optional<int64_t> fallback, int64_t min, int64_t max);
  double Number(const char* name, std::optional<double> fallback, double min, double max);
  bool Bool(const char* name, bool fallback);
  std::string String(const char* name, std::optional<std::string> fallback);
  // One integer or a list of them; empty if absent.
  std::vector<int64_t> IntOrList(const char* name, int64_t min, int64_t max);

  // INVALID_ARGUMENT "WHERE: FIELD: MESSAGE", unless something was wrong before.
  void Fail(const char* name, const std::string& message);
  // The same with UNIMPLEMENTED.
  void Unsupported(const char* name, const std::string& message);

  const absl::Status& status() const { return status_; }

 private:
  std::string Place(const char* name) const;
  int64_t CheckedInt(const char* name, const nlohmann::json& value, int64_t min, int64_t max);

  const nlohmann::json& object_;
  const std::string where_;
  const std::string prefix_;
  absl::Status status_;
};

}  // namespace sluice
