// What `sluice simulate` prints and writes.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "service/cli/command.h"
#include "service/simulation/comparison.h"

namespace sluice {

// One line per contender.
std::string ComparisonTable(const Comparison& comparison);

// Writes the JSON to `path`; "-" is io.out, "" nowhere. Returns UNAVAILABLE naming the path if it
// cannot be written.
absl::Status WriteComparisonJson(const std::string& path, const Comparison& comparison,
                                 const CliIo& io);

}  // namespace sluice
