// The four Unicode normalization forms (UAX #15), by utf8proc's character tables.
//
// Pure, thread-safe.
#pragma once

#include <string>

namespace sluice {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// `text` in `form`. O(n log n) whatever the text: utf8proc's own reordering of combining marks is
// quadratic in the length of a run of marks, and a client chooses that length.
// REQUIRES: `text` is valid UTF-8.
std::string ToUnicodeForm(std::string text, UnicodeForm form);

}  // namespace sluice
