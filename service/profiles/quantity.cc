#include "service/profiles/quantity.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

struct Unit {
  const char* name;
  int exponent;       // one of it is factor x 10^exponent base units
  double factor = 1;  // binary prefixes; FormatQuantity writes only units with factor 1
};

constexpr double kKi = 1024;
constexpr Unit kBytes[] = {{"B", 0},
                           {"kB", 3},
                           {"MB", 6},
                           {"GB", 9},
                           {"TB", 12},
                           {"KiB", 0, kKi},
                           {"MiB", 0, kKi* kKi},
                           {"GiB", 0, kKi* kKi* kKi},
                           {"TiB", 0, kKi* kKi* kKi* kKi}};
constexpr Unit kByteRates[] = {{"B/s", 0},
                               {"kB/s", 3},
                               {"MB/s", 6},
                               {"GB/s", 9},
                               {"TB/s", 12},
                               {"KiB/s", 0, kKi},
                               {"MiB/s", 0, kKi* kKi},
                               {"GiB/s", 0, kKi* kKi* kKi},
                               {"TiB/s", 0, kKi* kKi* kKi* kKi}};
constexpr Unit kFlopRates[] = {
    {"FLOP/s", 0}, {"MFLOP/s", 6}, {"GFLOP/s", 9}, {"TFLOP/s", 12}, {"PFLOP/s", 15}};
constexpr Unit kTimes[] = {{"ns", -9}, {"us", -6}, {"ms", -3}, {"s", 0}};
constexpr Unit kPowers[] = {{"mW", -3}, {"W", 0}, {"kW", 3}};
constexpr Unit kTokenCounts[] = {{"tokens", 0}};
constexpr Unit kParameterCounts[] = {{"parameters", 0}};

std::span<const Unit> UnitsOf(UnitKind kind) {
  switch (kind) {
    case UnitKind::kBytes:
      return kBytes;
    case UnitKind::kByteRate:
      return kByteRates;
    case UnitKind::kFlopRate:
      return kFlopRates;
    case UnitKind::kTime:
      return kTimes;
    case UnitKind::kPower:
      return kPowers;
    case UnitKind::kTokens:
      return kTokenCounts;
    case UnitKind::kParameters:
      break;
  }
  return kParameterCounts;
}

absl::Status Bad(absl::string_view text, absl::string_view problem, UnitKind kind) {
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text, "\" ", problem, "; want a number, a space and one of ", UnitNames(kind)));
}

// `text` x 10^exponent, rounded once: the exponent goes into the text. Only plain decimal numbers,
// as JSON has them: no "nan", "inf" or hexadecimal.
bool ParseDecimal(absl::string_view text, int exponent, double& value) {
  if (text.empty() || text.find_first_not_of("0123456789.eE+-") != absl::string_view::npos) {
    return false;
  }
  const size_t e = text.find_first_of("eE");
  if (e != absl::string_view::npos) {
    int own = 0;
    if (!absl::SimpleAtoi(text.substr(e + 1), &own) || own < -400 || own > 400) return false;
    exponent += own;
  }
  return absl::SimpleAtod(absl::StrCat(text.substr(0, e), "e", exponent), &value) &&
         std::isfinite(value);
}

// The unit in which a value of 10^exponent has the fewest digits before the point.
const Unit& UnitFor(int exponent, UnitKind kind) {
  const std::span<const Unit> units = UnitsOf(kind);
  const Unit* best = &units.front();
  for (const Unit& unit : units) {
    if (unit.factor == 1 && exponent >= unit.exponent) best = &unit;
  }
  return *best;
}

// The shortest decimal digits that give back `value`: digits[0].digits[1...] x 10^exponent.
struct Decimal {
  std::string digits;
  int exponent = 0;
};

Decimal ShortestDecimal(double value) {
  char text[40] = "";
  for (int decimals = 0; decimals <= 16; ++decimals) {
    std::snprintf(text, sizeof text, "%.*e", decimals, value);
    if (std::strtod(text, nullptr) == value) break;
  }
  const absl::string_view all(text);
  const size_t e = all.find('e');
  Decimal out;
  (void)absl::SimpleAtoi(all.substr(e + 1), &out.exponent);
  for (const char c : all.substr(0, e)) {
    if (c != '.') out.digits.push_back(c);
  }
  return out;
}

// Without an exponent.
std::string Fixed(const Decimal& number) {
  if (number.exponent < 0) {
    return absl::StrCat("0.", std::string(static_cast<size_t>(-number.exponent - 1), '0'),
                        number.digits);
  }
  const auto whole = static_cast<size_t>(number.exponent) + 1;
  if (number.digits.size() <= whole) {
    return absl::StrCat(number.digits, std::string(whole - number.digits.size(), '0'));
  }
  return absl::StrCat(number.digits.substr(0, whole), ".", number.digits.substr(whole));
}

}  // namespace

absl::StatusOr<double> ParseQuantity(absl::string_view text, UnitKind kind) {
  const size_t space = text.find(' ');
  double number = 0;
  if (space == absl::string_view::npos) {
    const bool bare = ParseDecimal(text, 0, number);
    return Bad(text, bare ? "has no unit" : "is not a number with a unit", kind);
  }
  const absl::string_view name = text.substr(space + 1);
  for (const Unit& unit : UnitsOf(kind)) {
    if (name != unit.name) continue;
    if (ParseDecimal(text.substr(0, space), unit.exponent, number)) return number * unit.factor;
    return Bad(text, "does not begin with a decimal number", kind);
  }
  return Bad(text, absl::StrCat("has the unit \"", name, "\", which is not one of this kind"),
             kind);
}

std::string FormatQuantity(double value, UnitKind kind) {
  Decimal number = ShortestDecimal(value);
  const Unit& unit = UnitFor(number.exponent, kind);
  number.exponent -= unit.exponent;
  return absl::StrCat(value == 0 ? "0" : Fixed(number), " ", unit.name);
}

std::string UnitNames(UnitKind kind) {
  std::string names;
  for (const Unit& unit : UnitsOf(kind)) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", unit.name);
  }
  return names;
}

}  // namespace sluice
