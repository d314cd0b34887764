// Canvas: SVG elements as text, escaped and with short numbers. Looks come from classes (style.h).
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace sluice {

// XML text: markup characters as entities, characters that XML forbids dropped, bytes that are not
// UTF-8 replaced by U+FFFD.
std::string EscapeXml(absl::string_view text);

// A length with at most two decimals: "12", "0.5". Not finite: "0".
std::string Px(double value);

// Width of `text` in pixels at 12 px, rather too large than too small: fonts differ by reader.
double TextWidth(absl::string_view text);

// `text` if it is at most `width` wide, or its beginning and "…".
std::string Shortened(absl::string_view text, double width);

struct Box {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;

  double right() const { return x + width; }
  double bottom() const { return y + height; }
  bool Overlaps(const Box& other) const {
    return x < other.right() && other.x < right() && y < other.bottom() && other.y < bottom();
  }
};

enum class Anchor { kStart, kMiddle, kEnd };

// `classes` are this library's own words; everything else is escaped.
class Canvas {
 public:
  void Line(double x1, double y1, double x2, double y2, absl::string_view classes);
  // `title` is shown on hover; empty: none.
  void Rect(const Box& box, absl::string_view classes, absl::string_view title = "");
  void Path(absl::string_view data, absl::string_view classes);
  // `y` is the base line.
  void Text(double x, double y, absl::string_view text, absl::string_view classes,
            Anchor anchor = Anchor::kStart);

  // What is drawn until EndClip() is cut off at `box`; coordinates stay the same.
  void BeginClip(const Box& box);
  void EndClip();

  const std::string& body() const { return body_; }

 private:
  std::string body_;
};

}  // namespace sluice
