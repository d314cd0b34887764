// UTF-8 scanning and the few Unicode character classes that tokenizers ask for.
//
// All functions are pure and thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// What starts at one place of a byte string.
struct Utf8Unit {
  char32_t code_point = 0;  // meaningful only if kind == kValid
  size_t size = 0;          // bytes; at least 1 unless the string is empty
  // kIncomplete: the string ends inside a character that is valid so far.
  // kInvalid: `size` bytes that one U+FFFD replaces (Unicode's "maximal subpart" rule).
  enum class Kind { kValid, kIncomplete, kInvalid } kind = Kind::kInvalid;
};

// Looks at the beginning of `s`. Rejects surrogates, overlong forms and values above U+10FFFF.
// REQUIRES: !s.empty()
Utf8Unit DecodeUtf8(std::string_view s);

// The first character of `s`.
// REQUIRES: `s` is valid UTF-8 and not empty.
inline Utf8Unit NextCharacter(std::string_view s) { return DecodeUtf8(s); }

// Appends the UTF-8 form of `c`.
// REQUIRES: c <= 0x10FFFF
void AppendUtf8(char32_t c, std::string* out);

// Bytes of the longest valid prefix of `s`.
size_t ValidUtf8Prefix(std::string_view s);
inline bool IsValidUtf8(std::string_view s) { return ValidUtf8Prefix(s) == s.size(); }

// `s` with each maximal invalid part, an incomplete end included, replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view s);

// Where the last character of `s` begins.
// REQUIRES: `s` is valid UTF-8 and not empty.
size_t LastCharacterStart(std::string_view s);

bool IsWhitespace(char32_t c);     // Unicode property White_Space
bool IsNumeric(char32_t c);        // general category N*
bool IsPunctuation(char32_t c);    // general category P*, or ASCII punctuation
bool IsWordCharacter(char32_t c);  // letters, marks, digits, connectors, joiners: a regex's \w

// Lower case of one character; appended because one (U+0130) becomes two.
void AppendLowercase(char32_t c, std::string* out);

}  // namespace sluice
