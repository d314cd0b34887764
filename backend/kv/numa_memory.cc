#include "backend/kv/numa_memory.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backend/kv/host_pool.h"

#ifdef SLUICE_HAVE_NUMA
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#endif

namespace sluice {

#ifdef SLUICE_HAVE_NUMA

namespace {

std::vector<int> Nodes() {
  std::vector<int> nodes;
  if (numa_available() < 0) return nodes;
  bitmask* const allowed = numa_get_mems_allowed();
  for (int node = 0; node <= numa_max_node(); ++node) {
    const bool usable = numa_bitmask_isbitset(allowed, static_cast<unsigned>(node)) != 0;
    if (usable && numa_node_size64(node, nullptr) > 0) nodes.push_back(node);
  }
  numa_bitmask_free(allowed);
  return nodes;
}

// The one node of all CPUs that this process may use; -1 if there are several.
int OwnNode() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0) return -1;
  int own = -1;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &cpus)) continue;
    const int node = numa_node_of_cpu(cpu);
    if (node < 0 || (own >= 0 && node != own)) return -1;
    own = node;
  }
  return own;
}

}  // namespace

std::string NumaNodes() { return absl::StrJoin(Nodes(), ", "); }

absl::StatusOr<int> ResolveNumaNode(int wanted) {
  if (wanted == HostMemoryOptions::kAnyNode) return -1;
  const std::vector<int> nodes = Nodes();
  if (wanted == HostMemoryOptions::kAutoNode) return nodes.empty() ? -1 : OwnNode();
  for (const int node : nodes) {
    if (node == wanted) return node;
  }
  if (nodes.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("NUMA node ", wanted, ": this system knows no NUMA nodes; leave it out"));
  }
  return absl::InvalidArgumentError(absl::StrCat("NUMA node ", wanted,
                                                 " is none that this process may use; there is ",
                                                 absl::StrJoin(nodes, ", ")));
}

absl::Status PreferNumaNode(std::byte* data, Bytes size, int node) {
  bitmask* const mask = numa_allocate_nodemask();
  numa_bitmask_setbit(mask, static_cast<unsigned>(node));
  const long result =  // NOLINT(google-runtime-int): as mbind() has it
      mbind(data, size.size(), MPOL_PREFERRED, mask->maskp, mask->size + 1, 0);
  const int error = errno;
  numa_bitmask_free(mask);
  if (result == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("cannot be put on NUMA node ", node, ": ",
                                                  std::strerror(error),
                                                  "; containers need CAP_SYS_NICE for it"));
}

#else

std::string NumaNodes() { return ""; }

absl::StatusOr<int> ResolveNumaNode(int wanted) {
  if (wanted < 0) return -1;
  return absl::UnimplementedError(
      absl::StrCat("NUMA node ", wanted,
                   ": this program was built without libnuma; leave it out, or run it "
                   "under numactl --preferred=",
                   wanted));
}

absl::Status PreferNumaNode(std::byte*, Bytes, int node) {
  return absl::UnimplementedError(absl::StrCat("NUMA node ", node, ": built without libnuma"));
}

#endif

}  // namespace sluice
