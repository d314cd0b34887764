#include "service/chat/text.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "service/tokenizer/utf8.h"

namespace sluice::jinja {
namespace {

// Python's str.isspace() for one character.
bool IsSpace(std::string_view character) {
  const Utf8Unit unit = DecodeUtf8(character);
  if (unit.kind != Utf8Unit::Kind::kValid) return false;
  return IsWhitespace(unit.code_point) || (unit.code_point >= 0x1C && unit.code_point <= 0x1F);
}

size_t FirstSize(std::string_view text) { return DecodeUtf8(text).size; }

bool IsAsciiLetter(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)); }

char UpperByte(char c) { return absl::ascii_toupper(static_cast<unsigned char>(c)); }

std::vector<std::string_view> SplitAtSpace(std::string_view text, int64_t most) {
  std::vector<std::string_view> parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    text = Strip(text, std::nullopt, Side::kLeft);
    if (text.empty()) return parts;
    size_t end = 0;
    while (end < text.size() && !IsSpace(text.substr(end))) end += FirstSize(text.substr(end));
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  text = Strip(text, std::nullopt, Side::kLeft);
  if (!text.empty()) parts.push_back(text);
  return parts;
}

}  // namespace

int64_t Length(std::string_view text) {
  int64_t length = 0;
  for (size_t at = 0; at < text.size(); at += FirstSize(text.substr(at))) ++length;
  return length;
}

std::string_view Substring(std::string_view text, int64_t begin, int64_t end) {
  size_t from = 0;
  int64_t index = 0;
  for (; index < begin && from < text.size(); ++index) from += FirstSize(text.substr(from));
  size_t to = from;
  for (; index < end && to < text.size(); ++index) to += FirstSize(text.substr(to));
  return text.substr(from, to - from);
}

std::vector<std::string_view> Characters(std::string_view text) {
  std::vector<std::string_view> characters;
  while (!text.empty()) {
    characters.push_back(text.substr(0, FirstSize(text)));
    text.remove_prefix(characters.back().size());
  }
  return characters;
}

std::string_view Strip(std::string_view text, std::optional<std::string_view> set, Side side) {
  const auto strips = [&](std::string_view character) {
    if (!set.has_value()) return IsSpace(character);
    for (const std::string_view one : Characters(*set)) {
      if (one == character) return true;
    }
    return false;
  };
  if (side != Side::kRight) {
    while (!text.empty() && strips(text.substr(0, FirstSize(text)))) {
      text.remove_prefix(FirstSize(text));
    }
  }
  if (side != Side::kLeft) {
    while (!text.empty() && strips(text.substr(LastCharacterStart(text)))) {
      text = text.substr(0, LastCharacterStart(text));
    }
  }
  return text;
}

std::vector<std::string_view> Split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t most,
                                    bool from_right) {
  if (!separator.has_value()) return SplitAtSpace(text, most);
  std::vector<std::string_view> parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = from_right ? text.rfind(*separator) : text.find(*separator);
    if (at == std::string_view::npos) break;
    const std::string_view after = text.substr(at + separator->size());
    parts.push_back(from_right ? after : text.substr(0, at));
    text = from_right ? text.substr(0, at) : after;
  }
  parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> SplitLines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\r\n"), text.size());
    lines.push_back(text.substr(0, end));
    const bool two = text.substr(end, 2) == "\r\n";
    text.remove_prefix(std::min(text.size(), end + (two ? 2 : 1)));
  }
  return lines;
}

std::string Upper(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), UpperByte);
  return out;
}

std::string Lower(std::string_view text) {
  std::string out;
  for (const std::string_view character : Characters(text)) {
    const Utf8Unit unit = DecodeUtf8(character);
    if (unit.kind == Utf8Unit::Kind::kValid) {
      AppendLowercase(unit.code_point, &out);
    } else {
      out += character;
    }
  }
  return out;
}

std::string Capitalize(std::string_view text) {
  std::string out = Lower(text);
  if (!out.empty()) out[0] = UpperByte(out[0]);
  return out;
}

std::string Title(std::string_view text) {
  std::string out = Lower(text);
  bool inside = false;  // of a word
  for (char& c : out) {
    if (!inside) c = UpperByte(c);
    inside = IsAsciiLetter(c) || static_cast<unsigned char>(c) >= 0x80;
  }
  return out;
}

int64_t CountOf(std::string_view text, std::string_view part) {
  if (part.empty()) return Length(text) + 1;
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

std::string Replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t most) {
  std::string out;
  for (int64_t count = 0; most < 0 || count < most; ++count) {
    const size_t at = text.find(from);
    if (at == std::string_view::npos) break;
    out.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
  return out.append(text);
}

}  // namespace sluice::jinja
