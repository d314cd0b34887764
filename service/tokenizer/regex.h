// Regular expressions of tokenizer files, and what it means to cut a text with one.
//
// The files are written for Oniguruma's Ruby syntax; matching is done by PCRE2 (UTF, UCP, JIT).
// TranslateRegex rewrites the few escapes whose meaning differs and refuses what it cannot keep, so
// that a pattern never silently means something else. Both libraries follow Unicode 14 here; a
// character assigned later may be classified differently by other builds.
//
// Thread-safe after construction.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice {

// A part of a text, in bytes, and whether it is a match or what lies between matches.
struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool is_match = false;

  friend bool operator==(const Span&, const Span&) = default;
};

// Oniguruma (Ruby) syntax to PCRE2 syntax. Returns UNIMPLEMENTED naming a construct that PCRE2
// understands differently.
absl::StatusOr<std::string> TranslateRegex(std::string_view onig);

// Cuts texts into spans that cover them completely and in order. One kind of pattern each.
class Pattern {
 public:
  virtual ~Pattern() = default;

  // Returns spans without gaps from 0 to text.size(). A match may be empty; the rest never is.
  // REQUIRES: `text` is valid UTF-8.
  virtual std::vector<Span> Cut(std::string_view text) const = 0;
};

// Returns INVALID_ARGUMENT if the pattern does not compile, UNIMPLEMENTED as TranslateRegex.
//
// A match that needs more than kRegexMatchLimit backtracking steps is given up: the rest of the
// text is then one span that is not a match. The time is thus bounded even for hostile input.
inline constexpr unsigned kRegexMatchLimit = 10'000'000;
absl::StatusOr<std::unique_ptr<Pattern>> CompileRegex(std::string_view onig);

// Exact occurrences of `literal`, from the left, not overlapping.
// REQUIRES: !literal.empty()
std::unique_ptr<Pattern> LiteralPattern(std::string literal);

// Every single character for which `is_match` holds.
std::unique_ptr<Pattern> CharacterPattern(std::function<bool(char32_t)> is_match);

}  // namespace sluice
