// The files of deploy/profiles as they were when the program was built (see embed.py).
#pragma once

#include <span>

namespace sluice {

struct BuiltInFile {
  const char* path;  // "hardware/h100-pcie5.json"
  const char* text;
};

// Sorted by path.
std::span<const BuiltInFile> BuiltInProfiles();

}  // namespace sluice
