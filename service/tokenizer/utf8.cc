#include "service/tokenizer/utf8.h"

#include <utf8proc.h>

#include <cstring>

namespace sluice {
namespace {

unsigned char ByteAt(std::string_view s, size_t i) { return static_cast<unsigned char>(s[i]); }

// The shape of a character by its first byte: its length and the range of its second byte
// (The Unicode Standard, table 3-7).
struct Lead {
  size_t size = 0;  // 0: cannot begin a character
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
};

Lead LeadOf(unsigned char b) {
  if (b >= 0xC2 && b <= 0xDF) return {2};
  if (b == 0xE0) return {3, 0xA0, 0xBF};
  if (b == 0xED) return {3, 0x80, 0x9F};
  if (b >= 0xE1 && b <= 0xEF) return {3};
  if (b == 0xF0) return {4, 0x90, 0xBF};
  if (b >= 0xF1 && b <= 0xF3) return {4};
  if (b == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

// Bytes of the leading ASCII part, eight at a time.
size_t AsciiPrefix(std::string_view s) {
  size_t i = 0;
  for (; i + 8 <= s.size(); i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, s.data() + i, 8);
    if ((word & 0x8080808080808080ULL) != 0) break;
  }
  while (i < s.size() && ByteAt(s, i) < 0x80) ++i;
  return i;
}

}  // namespace

Utf8Unit DecodeUtf8(std::string_view s) {
  const unsigned char first = ByteAt(s, 0);
  if (first < 0x80) return {first, 1, Utf8Unit::Kind::kValid};
  const Lead lead = LeadOf(first);
  if (lead.size == 0) return {0, 1, Utf8Unit::Kind::kInvalid};
  char32_t c = first & (0xFFu >> (lead.size + 1));
  for (size_t i = 1; i < lead.size; ++i) {
    if (i == s.size()) return {0, i, Utf8Unit::Kind::kIncomplete};
    const unsigned char b = ByteAt(s, i);
    const unsigned char low = i == 1 ? lead.low : 0x80;
    const unsigned char high = i == 1 ? lead.high : 0xBF;
    if (b < low || b > high) return {0, i, Utf8Unit::Kind::kInvalid};
    c = (c << 6) | (b & 0x3Fu);
  }
  return {c, lead.size, Utf8Unit::Kind::kValid};
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
    return;
  }
  if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (c >> 6)));
  } else {
    if (c < 0x10000) {
      out->push_back(static_cast<char>(0xE0 | (c >> 12)));
    } else {
      out->push_back(static_cast<char>(0xF0 | (c >> 18)));
      out->push_back(static_cast<char>(0x80 | ((c >> 12) & 0x3F)));
    }
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
  }
  out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
}

size_t ValidUtf8Prefix(std::string_view s) {
  size_t i = AsciiPrefix(s);
  while (i < s.size()) {
    const Utf8Unit unit = DecodeUtf8(s.substr(i));
    if (unit.kind != Utf8Unit::Kind::kValid) return i;
    i += unit.size;
    i += AsciiPrefix(s.substr(i));
  }
  return i;
}

std::string ReplaceInvalidUtf8(std::string_view s) {
  std::string out;
  out.reserve(s.size());
  while (!s.empty()) {
    const size_t valid = ValidUtf8Prefix(s);
    out.append(s.substr(0, valid));
    s.remove_prefix(valid);
    if (s.empty()) break;
    out.append(kReplacementCharacter);
    s.remove_prefix(DecodeUtf8(s).size);
  }
  return out;
}

size_t LastCharacterStart(std::string_view s) {
  size_t i = s.size() - 1;
  while (i > 0 && (ByteAt(s, i) & 0xC0) == 0x80) --i;
  return i;
}

bool IsWhitespace(char32_t c) {
  if (c <= 0x20) return c == 0x20 || (c >= 0x09 && c <= 0x0D);
  if (c < 0x80) return false;
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsNumeric(char32_t c) {
  const utf8proc_category_t k = Category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool IsPunctuation(char32_t c) {
  if (c < 0x80) {
    return (c > 0x20 && c < 0x30) || (c > 0x39 && c < 0x41) || (c > 0x5A && c < 0x61) ||
           (c > 0x7A && c < 0x7F);
  }
  const utf8proc_category_t k = Category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

bool IsWordCharacter(char32_t c) {
  const utf8proc_category_t k = Category(c);
  return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC ||
         c == 0x200C || c == 0x200D;
}

void AppendLowercase(char32_t c, std::string* out) {
  if (c == 0x130) {  // LATIN CAPITAL LETTER I WITH DOT ABOVE -> "i", COMBINING DOT ABOVE
    out->append("i\xCC\x87");
    return;
  }
  AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
}

}  // namespace sluice
