#include "service/report/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sluice {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// Bytes of the UTF-8 character at the beginning of `text`, 0 if there is no valid one.
// REQUIRES: !text.empty().
size_t CharacterLength(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  size_t length = 1;
  if (byte(0) >= 0xF0) {
    length = 4;
  } else if (byte(0) >= 0xE0) {
    length = 3;
  } else if (byte(0) >= 0xC0) {
    length = 2;
  }
  if (length == 1) return byte(0) < 0x80 ? 1 : 0;
  if (length > text.size() || byte(0) > 0xF4) return 0;
  uint32_t code = byte(0) & (0xFFU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return 0;
    code = code << 6 | (byte(i) & 0x3FU);
  }
  static constexpr uint32_t kShortest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  const bool forbidden = code == 0xFFFE || code == 0xFFFF;
  return code < kShortest[length] || surrogate || forbidden || code > 0x10FFFF ? 0 : length;
}

void AppendEscaped(std::string& out, char c) {
  switch (c) {
    case '&':
      out += "&amp;";
      return;
    case '<':
      out += "&lt;";
      return;
    case '>':
      out += "&gt;";
      return;
    case '"':
      out += "&quot;";
      return;
    case '\'':
      out += "&#39;";
      return;
    default:
      break;
  }
  const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
  if (!control || c == '\t' || c == '\n') out += c;
}

// Share of the font size a character takes, of wide fonts.
double CharacterWidth(absl::string_view character) {
  if (character.size() > 1) return 0.72;
  const char c = character[0];
  if (absl::string_view("ijlI.,:;'|!()[]/ ").find(c) != absl::string_view::npos) return 0.36;
  if (absl::string_view("mwMW%@").find(c) != absl::string_view::npos) return 0.95;
  if (c >= 'A' && c <= 'Z') return 0.72;
  if (absl::string_view("frt-").find(c) != absl::string_view::npos) return 0.43;
  return 0.63;
}

constexpr double kFontSize = 12;

}  // namespace

std::string EscapeXml(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t length = CharacterLength(text.substr(i));
    if (length == 0) {
      out += kReplacement;
    } else if (length == 1) {
      AppendEscaped(out, text[i]);
    } else {
      absl::StrAppend(&out, text.substr(i, length));
    }
    i += std::max<size_t>(1, length);
  }
  return out;
}

std::string Px(double value) {
  if (!std::isfinite(value)) return "0";
  std::string text = absl::StrFormat("%.2f", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

double TextWidth(absl::string_view text) {
  double width = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t length = std::max<size_t>(1, CharacterLength(text.substr(i)));
    width += CharacterWidth(text.substr(i, length));
    i += length;
  }
  return width * kFontSize;
}

std::string Shortened(absl::string_view text, double width) {
  if (TextWidth(text) <= width) return std::string(text);
  const double room = width - TextWidth("…");
  double used = 0;
  size_t end = 0;
  while (end < text.size()) {
    const size_t length = std::max<size_t>(1, CharacterLength(text.substr(end)));
    used += TextWidth(text.substr(end, length));
    if (used > room) break;
    end += length;
  }
  return absl::StrCat(text.substr(0, end), "…");
}

void Canvas::Line(double x1, double y1, double x2, double y2, absl::string_view classes) {
  absl::StrAppend(&body_, "<line class=\"", classes, "\" x1=\"", Px(x1), "\" y1=\"", Px(y1),
                  "\" x2=\"", Px(x2), "\" y2=\"", Px(y2), "\"/>\n");
}

void Canvas::Rect(const Box& box, absl::string_view classes, absl::string_view title) {
  absl::StrAppend(&body_, "<rect class=\"", classes, "\" x=\"", Px(box.x), "\" y=\"", Px(box.y),
                  "\" width=\"", Px(std::max(0.0, box.width)), "\" height=\"",
                  Px(std::max(0.0, box.height)), "\"");
  if (title.empty()) {
    absl::StrAppend(&body_, "/>\n");
  } else {
    absl::StrAppend(&body_, "><title>", EscapeXml(title), "</title></rect>\n");
  }
}

void Canvas::Path(absl::string_view data, absl::string_view classes) {
  absl::StrAppend(&body_, "<path class=\"", classes, "\" d=\"", data, "\"/>\n");
}

void Canvas::Text(double x, double y, absl::string_view text, absl::string_view classes,
                  Anchor anchor) {
  static constexpr const char* kAnchors[] = {"", " text-anchor=\"middle\"", " text-anchor=\"end\""};
  absl::StrAppend(&body_, "<text class=\"", classes, "\" x=\"", Px(x), "\" y=\"", Px(y), "\"",
                  kAnchors[static_cast<int>(anchor)], ">", EscapeXml(text), "</text>\n");
}

void Canvas::BeginClip(const Box& box) {
  const std::string at =
      absl::StrCat(Px(box.x), " ", Px(box.y), " ", Px(box.width), " ", Px(box.height));
  absl::StrAppend(&body_, "<svg x=\"", Px(box.x), "\" y=\"", Px(box.y), "\" width=\"",
                  Px(box.width), "\" height=\"", Px(box.height), "\" viewBox=\"", at, "\">\n");
}

void Canvas::EndClip() { body_ += "</svg>\n"; }

}  // namespace sluice
