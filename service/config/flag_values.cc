#include "service/config/flag_values.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace sluice {
namespace {

std::string Quoted(const std::string& text) { return absl::StrCat("\"", text, "\""); }

// A bound as text; the ends of the type mean "no bound".
std::string Bound(int64_t value) {
  if (value == std::numeric_limits<int64_t>::max()) return "2^63 - 1";
  if (value == std::numeric_limits<int64_t>::min()) return "-2^63";
  return absl::StrCat(value);
}

struct Unit {
  const char* suffix;
  double bytes;
};
constexpr std::array<Unit, 9> kUnits = {{{"kib", 1024.0},
                                         {"mib", 1024.0 * 1024},
                                         {"gib", 1024.0 * 1024 * 1024},
                                         {"tib", 1024.0 * 1024 * 1024 * 1024},
                                         {"kb", 1e3},
                                         {"mb", 1e6},
                                         {"gb", 1e9},
                                         {"tb", 1e12},
                                         {"b", 1.0}}};
constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kLargestSize = 1e15;

}  // namespace

absl::StatusOr<int64_t> ParseInteger(const std::string& text, int64_t min, int64_t max) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value)) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is not a whole number in [",
                                                   Bound(min), ", ", Bound(max), "]"));
  }
  if (value < min || value > max) {
    return absl::InvalidArgumentError(
        absl::StrCat(value, " is not in [", Bound(min), ", ", Bound(max), "]"));
  }
  return value;
}

absl::StatusOr<uint64_t> ParseUnsigned(const std::string& text) {
  uint64_t value = 0;
  if (!absl::SimpleAtoi(text, &value)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text), " is not a whole number in [0, 2^64 - 1]"));
  }
  return value;
}

absl::StatusOr<double> ParseNumber(const std::string& text, double min, double max) {
  const std::string range = absl::StrCat("[", FormatNumber(min), ", ", FormatNumber(max), "]");
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is not a number in ", range));
  }
  if (value < min || value > max) {
    return absl::InvalidArgumentError(absl::StrCat(text, " is not in ", range));
  }
  return value;
}

absl::StatusOr<bool> ParseBool(const std::string& text) {
  const std::string lower = absl::AsciiStrToLower(text);
  if (lower == "true" || lower == "yes" || lower == "on" || lower == "1") return true;
  if (lower == "false" || lower == "no" || lower == "off" || lower == "0") return false;
  return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is neither true nor false"));
}

absl::StatusOr<Bytes> ParseSize(const std::string& text) {
  std::string number = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  double unit = kGiB;
  for (const Unit& u : kUnits) {
    const std::string_view suffix = u.suffix;
    if (number.size() > suffix.size() &&
        number.compare(number.size() - suffix.size(), suffix.size(), suffix) == 0) {
      number.resize(number.size() - suffix.size());
      unit = u.bytes;
      break;
    }
  }
  double value = 0;
  if (!absl::SimpleAtod(number, &value) || !std::isfinite(value)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text),
                     " is not a size; write a number of GiB (0.5) or a number with a "
                     "unit (512MiB, 2GiB)"));
  }
  if (value < 0 || value * unit > kLargestSize) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is not in [0, 1000 TB]"));
  }
  return Bytes(std::llround(value * unit));
}

absl::StatusOr<std::vector<uint32_t>> ParseTokenIds(const std::string& text) {
  std::vector<uint32_t> ids;
  for (absl::string_view piece : absl::StrSplit(text, ',')) {
    uint32_t id = 0;
    if (!absl::SimpleAtoi(piece, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(std::string(piece)),
                       " is not a token id; write whole numbers separated by commas (1,2,3)"));
    }
    ids.push_back(id);
  }
  return ids;
}

std::string FormatBytes(Bytes bytes) {
  static constexpr std::array<const char*, 5> kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes.value());
  size_t unit = 0;
  while (std::abs(value) >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  if (value == std::floor(value)) return absl::StrFormat("%.0f %s", value, kNames[unit]);
  return absl::StrFormat("%.2f %s", value, kNames[unit]);
}

std::string FormatNumber(double value) {
  std::array<char, 64> buffer;
  const std::to_chars_result end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), end.ptr);
}

}  // namespace sluice
