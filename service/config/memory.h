// How much memory this process may use.
#pragma once

#include <string>

#include "scheduler/base/units.h"

namespace sluice {

// The machine's memory, or the limit of the control group the process runs in if that is smaller.
Bytes MemoryLimit();

// The number in a cgroup v2 `memory.max` file's text; `otherwise` for "max" or anything unreadable.
Bytes ParseCgroupLimit(const std::string& text, Bytes otherwise);

}  // namespace sluice
