// Memory on a NUMA node, by libnuma where it was there at build time.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice {

// The node that HostMemoryOptions::numa_node means; -1: no preference. Returns INVALID_ARGUMENT
// naming the nodes there are, UNIMPLEMENTED for a node if built without libnuma.
absl::StatusOr<int> ResolveNumaNode(int wanted);

// Has the kernel take pages of [data, data + size) from `node` while it has any. The range: whole
// pages, not touched yet. Returns PERMISSION_DENIED where that is not allowed.
absl::Status PreferNumaNode(std::byte* data, Bytes size, int node);

}  // namespace sluice
