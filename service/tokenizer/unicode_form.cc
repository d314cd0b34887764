#include "service/tokenizer/unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

bool Composes(UnicodeForm f) { return f == UnicodeForm::kNfc || f == UnicodeForm::kNfkc; }
bool IsCompatibility(UnicodeForm f) { return f == UnicodeForm::kNfkc || f == UnicodeForm::kNfkd; }

// Whether `text` is in `form` already, by looking at lead bytes only. Below U+0300 nothing is
// changed by NFC (lead bytes up to 0xCB), below U+0080 nothing by any form.
bool SurelyInForm(std::string_view text, UnicodeForm form) {
  const unsigned char limit = form == UnicodeForm::kNfc ? 0xCC : 0x80;
  return std::all_of(text.begin(), text.end(),
                     [limit](char c) { return static_cast<unsigned char>(c) < limit; });
}

int CombiningClass(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

std::vector<utf8proc_int32_t> Decompose(std::string_view text, utf8proc_option_t options) {
  constexpr size_t kLongest = 32;  // UAX #15: no character becomes more than 18
  std::vector<utf8proc_int32_t> out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Unit c = NextCharacter(text);
    const auto code_point = static_cast<utf8proc_int32_t>(c.code_point);
    std::array<utf8proc_int32_t, kLongest> parts = {};
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(code_point, parts.data(), kLongest, options, nullptr);
    if (n < 0 || n > static_cast<utf8proc_ssize_t>(kLongest)) {
      out.push_back(code_point);
    } else {
      out.insert(out.end(), parts.begin(), parts.begin() + n);
    }
    text.remove_prefix(c.size);
  }
  return out;
}

// The canonical ordering algorithm: each run of marks is sorted by combining class.
void SortMarks(std::vector<utf8proc_int32_t>* text) {
  for (auto it = text->begin(); it != text->end();) {
    if (CombiningClass(*it) == 0) {
      ++it;
      continue;
    }
    const auto end =
        std::find_if(it, text->end(), [](utf8proc_int32_t c) { return CombiningClass(c) == 0; });
    std::stable_sort(it, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    it = end;
  }
}

}  // namespace

std::string ToUnicodeForm(std::string text, UnicodeForm form) {
  if (SurelyInForm(text, form)) return text;
  int options = UTF8PROC_STABLE | (Composes(form) ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
  if (IsCompatibility(form)) options |= UTF8PROC_COMPAT;
  std::vector<utf8proc_int32_t> parts = Decompose(text, static_cast<utf8proc_option_t>(options));
  SortMarks(&parts);
  auto n = static_cast<utf8proc_ssize_t>(parts.size());
  if (Composes(form)) {
    const utf8proc_ssize_t composed =
        utf8proc_normalize_utf32(parts.data(), n, static_cast<utf8proc_option_t>(options));
    if (composed >= 0) n = composed;
  }
  text.clear();
  for (utf8proc_ssize_t i = 0; i < n; ++i) {
    AppendUtf8(static_cast<char32_t>(parts[static_cast<size_t>(i)]), &text);
  }
  return text;
}

}  // namespace sluice
