// StrictObject reads a JSON object whose keys must all be there and all be known. It remembers the
// first thing wrong; readers return a harmless value once something is, so that a parser reads all
// its keys in a row and looks at the status at the end.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "service/profiles/quantity.h"

namespace sluice {

class StrictObject {
 public:
  // `where` comes first in every message ("h100.json"); `status` takes the first error, and is kept
  // by the caller so that nested objects share it. Borrows all three.
  // REQUIRES: object.is_object().
  StrictObject(const nlohmann::json& object, const std::string& where, absl::Status& status,
               std::string prefix = "");

  // Whether the object has the key, for those that may be missing.
  bool Has(const char* key) { return Find(key) != nullptr; }

  std::string String(const char* key);
  int64_t Int(const char* key, int64_t min, int64_t max);
  // A text like "3.35 TB/s", in base units.
  double Quantity(const char* key, UnitKind kind);
  // The same, or "none": 0.
  double QuantityOrNone(const char* key, UnitKind kind);

  // The object under `key`; with `may_be_none` or `may_be_absent`, null for "none" or nothing.
  enum class Presence { kRequired, kOrNone, kOrAbsent };
  const nlohmann::json* Object(const char* key, Presence presence = Presence::kRequired);
  StrictObject Nested(const nlohmann::json& object, const char* key);

  // Fails if the object has a key that nobody asked for.
  void RejectUnknown();
  // INVALID_ARGUMENT "WHERE: PREFIX KEY: MESSAGE", unless something was wrong before.
  void Fail(const std::string& key, const std::string& message);

 private:
  const nlohmann::json* Find(const char* key);
  double ReadQuantity(const char* key, const nlohmann::json& value, UnitKind kind);

  const nlohmann::json& object_;
  const std::string& where_;
  absl::Status& status_;
  const std::string prefix_;
  std::set<std::string> asked_;
};

}  // namespace sluice
