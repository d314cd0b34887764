// Which memory and which CPUs are near a PCI slot, from sysfs. Hints: everything works, slower,
// without them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

// The node of a PCI function ("0000:3b:00.0"), from <sysfs>/bus/pci/devices. None if the file is
// missing or says -1 (one node, or firmware that does not tell).
std::optional<int> NumaNodeOfPci(std::string_view pci, const std::string& sysfs = "/sys");

// CPUs of a node, from <sysfs>/devices/system/node. Returns NOT_FOUND if there is no such node.
absl::StatusOr<std::vector<int>> CpusOfNode(int node, const std::string& sysfs = "/sys");

// "0-3,8,10-11" to numbers. Returns INVALID_ARGUMENT with the text if it is no such list.
absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text);

// Asks for pages of `node` for memory that was not touched yet (mbind, preferred: other nodes are
// used when it is full). REQUIRES: `data` is page-aligned.
absl::Status PreferNode(void* data, Bytes size, int node);

// Lets the calling thread run on the CPUs of `node` only.
absl::Status RunOnNode(int node, const std::string& sysfs = "/sys");

}  // namespace sluice::cuda
