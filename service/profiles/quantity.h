// Numbers with units in text: "3.35 TB/s". Decimal prefixes are powers of 1000, Ki, Mi, Gi and Ti
// powers of 1024.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sluice {

// What a number measures. Base units: B, B/s, FLOP/s, s, W, one.
enum class UnitKind : uint8_t { kBytes, kByteRate, kFlopRate, kTime, kPower, kTokens, kParameters };

// The number in base units. The text is a decimal number, one space, and a unit of `kind`; nothing
// else. Returns INVALID_ARGUMENT saying what is wrong and which units there are.
absl::StatusOr<double> ParseQuantity(absl::string_view text, UnitKind kind);

// The shortest text that ParseQuantity turns back into exactly `value`, in the unit that leaves the
// fewest digits before the point. REQUIRES: value is finite and at least 0.
std::string FormatQuantity(double value, UnitKind kind);

// "B/s, kB/s, MB/s, ..."
std::string UnitNames(UnitKind kind);

}  // namespace sluice
