// Text to values, for flags and configuration keys. Every function returns INVALID_ARGUMENT whose
// message begins with the offending text and says what is allowed, for instance
//   70000 is not in [0, 65535]
// The caller puts the name of the flag or key before it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice {

// A whole number in [min, max].
absl::StatusOr<int64_t> ParseInteger(const std::string& text, int64_t min, int64_t max);
absl::StatusOr<uint64_t> ParseUnsigned(const std::string& text);

// A finite number in [min, max].
absl::StatusOr<double> ParseNumber(const std::string& text, double min, double max);

// true/false, yes/no, on/off, 1/0.
absl::StatusOr<bool> ParseBool(const std::string& text);

// A size: a plain number is in GiB; the suffixes B, KiB, MiB, GiB, TiB (powers of 1024) and KB, MB,
// GB, TB (powers of 1000) are accepted in any case. 0 is allowed.
absl::StatusOr<Bytes> ParseSize(const std::string& text);

// Token ids separated by commas (blanks allowed): "1,2,3". At least one.
absl::StatusOr<std::vector<uint32_t>> ParseTokenIds(const std::string& text);

// "64 MiB", "1.50 GiB": for people.
std::string FormatBytes(Bytes bytes);
// The shortest text that reads back as `value`: "0.05", "1".
std::string FormatNumber(double value);

}  // namespace sluice
