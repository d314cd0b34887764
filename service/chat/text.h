// Python's str methods on UTF-8: positions and lengths count code points, as there.
//
// Upper case is changed for ASCII letters only; templates change the case of role names, nothing
// else.
//
// Pure. Texts are valid UTF-8; invalid bytes count as one character each.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::jinja {

int64_t Length(std::string_view text);

// The text from code point `begin` to `end`. REQUIRES: 0 <= begin <= end <= Length(text).
std::string_view Substring(std::string_view text, int64_t begin, int64_t end);

// One string for each code point.
std::vector<std::string_view> Characters(std::string_view text);

// Without characters of `set` (nothing: whitespace) at the chosen ends.
enum class Side { kLeft, kRight, kBoth };
std::string_view Strip(std::string_view text, std::optional<std::string_view> set, Side side);

// Nothing for `separator`: at runs of whitespace, which gives no empty part. At most `most` cuts,
// unless that is negative; `from_right`: the last ones. REQUIRES: `separator` is not empty.
std::vector<std::string_view> Split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t most,
                                    bool from_right);
std::vector<std::string_view> SplitLines(std::string_view text);

std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Capitalize(std::string_view text);
std::string Title(std::string_view text);

// How often `part` occurs, without overlaps; one more than the characters for an empty one.
int64_t CountOf(std::string_view text, std::string_view part);

// The first `most` (all, if negative) occurrences of `from` replaced by `to`.
// REQUIRES: `from` is not empty.
std::string Replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t most);

}  // namespace sluice::jinja
