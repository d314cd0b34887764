// --prompt-file, as all commands that take it read it.
#pragma once

#include <istream>
#include <string>

#include "absl/status/statusor.h"

namespace sluice {

// All of the file; "-": of `in`. Returns NOT_FOUND naming the path if it cannot be read.
absl::StatusOr<std::string> ReadPrompt(const std::string& path, std::istream& in);

}  // namespace sluice
