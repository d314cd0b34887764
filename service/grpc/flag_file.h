// ReadFlagFile: the content of a small file that a flag names.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace sluice {

// Returns NOT_FOUND naming `flag` and `path` if it cannot be read or is empty.
absl::StatusOr<std::string> ReadFlagFile(const char* flag, const std::string& path);

}  // namespace sluice
