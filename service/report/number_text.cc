#include "service/report/number_text.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sluice {
namespace {

constexpr double kMinute = 60;
constexpr double kHour = 3600;

// Digits after the point that show `digits` significant ones of `value`.
int DecimalsFor(double value, int digits) {
  const int before = static_cast<int>(std::floor(std::log10(std::abs(value)))) + 1;
  return std::clamp(digits - before, 0, 12);
}

std::string TrimZeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

}  // namespace

std::string FormatSignificant(double value, int digits) {
  if (std::isnan(value)) return "–";
  if (std::isinf(value)) return value > 0 ? "∞" : "-∞";
  if (value == 0) return "0";
  return TrimZeros(absl::StrFormat("%.*f", DecimalsFor(value, digits), value));
}

std::string FormatWithPrefix(double value, int digits) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  size_t prefix = 0;
  // 999.96 with three digits would read "1000".
  const double limit = 1000 - 0.5 * std::pow(10.0, 3 - digits);
  while (std::isfinite(value) && std::abs(value) >= limit && prefix + 1 < std::size(kPrefixes)) {
    value /= 1000;
    ++prefix;
  }
  return absl::StrCat(FormatSignificant(value, digits), kPrefixes[prefix]);
}

std::string FormatSeconds(double seconds, int digits) {
  const double size = std::abs(seconds);
  if (!std::isfinite(seconds)) return FormatSignificant(seconds, digits);
  if (seconds == 0) return "0 s";
  if (size < 0.9995e-3) return absl::StrCat(FormatSignificant(seconds * 1e6, digits), " µs");
  if (size < 0.9995) return absl::StrCat(FormatSignificant(seconds * 1e3, digits), " ms");
  if (size < 2 * kMinute) return absl::StrCat(FormatSignificant(seconds, digits), " s");
  if (size < 2 * kHour) return absl::StrCat(FormatSignificant(seconds / kMinute, digits), " min");
  return absl::StrCat(FormatSignificant(seconds / kHour, digits), " h");
}

std::string FormatPercent(double share, int digits) {
  return absl::StrCat(FormatSignificant(share * 100, digits), " %");
}

std::string FormatBinaryBytes(double bytes, int digits) {
  static constexpr const char* kUnits[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
  size_t unit = 0;
  while (std::isfinite(bytes) && std::abs(bytes) >= 1023.5 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return absl::StrCat(FormatSignificant(bytes, digits), kUnits[unit]);
}

}  // namespace sluice
