// TokenTable: which bearer token stands for whom. The text it is read from has a line per token:
//
//   # comment
//   TOKEN TENANT [admin]
//
// Immutable, so thread-safe.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/access/caller.h"

namespace sluice {

class TokenTable {
 public:
  // Shorter ones can be guessed.
  static constexpr size_t kLeastTokenBytes = 16;

  // Returns INVALID_ARGUMENT naming the line; no message ever holds a token.
  static absl::StatusOr<TokenTable> Parse(absl::string_view text);

  // Whom `token` stands for. Takes as long for a wrong token as for a right one, whichever it is:
  // all entries are compared to the end.
  std::optional<Caller> Find(absl::string_view token) const;

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string token;
    Caller caller;
  };

  std::vector<Entry> entries_;
};

// Whether `secret` and `guess` are equal, in a time that depends on the length of `guess` alone.
bool EqualInConstantTime(absl::string_view secret, absl::string_view guess);

}  // namespace sluice
