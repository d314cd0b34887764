// Numbers as people write them: short, with a prefix or unit that keeps the digits few.
#pragma once

#include <string>

namespace sluice {

// At most `digits` significant digits, without trailing zeros or exponent: "0.05", "120", "14.3".
// Not finite: "–" for NaN, "∞", "-∞".
std::string FormatSignificant(double value, int digits);

// With decimal prefixes from 1,000 up: "999", "1.5k", "2M", "3G", "4T", "5P".
std::string FormatWithPrefix(double value, int digits = 3);

// "12 µs", "3.5 ms", "20 s", "1.5 min", "2 h": minutes from 120 s, hours from 120 min.
std::string FormatSeconds(double seconds, int digits = 3);

// Of a share: 0.123 is "12.3 %".
std::string FormatPercent(double share, int digits = 3);

// Powers of 1024: "512 B", "4 KiB", "1.5 GiB".
std::string FormatBinaryBytes(double bytes, int digits = 3);

}  // namespace sluice
