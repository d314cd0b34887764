#include "backend/cuda/device/numa.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace sluice::cuda {
namespace {

// The first line of a file of sysfs, or nothing.
std::optional<std::string> ReadLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

}  // namespace

std::optional<int> NumaNodeOfPci(std::string_view pci, const std::string& sysfs) {
  const auto line =
      ReadLine(absl::StrCat(sysfs, "/bus/pci/devices/", std::string(pci), "/numa_node"));
  int node = -1;
  if (!line.has_value() || !absl::SimpleAtoi(*line, &node) || node < 0) return std::nullopt;
  return node;
}

absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text) {
  const absl::string_view list =
      absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size()));
  const auto bad = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", list, "\" is no list of CPUs such as \"0-3,8\""));
  };
  std::vector<int> cpus;
  if (list.empty()) return cpus;
  for (const absl::string_view range : absl::StrSplit(list, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(range, '-');
    int first = 0;
    int last = 0;
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) ||
        !absl::SimpleAtoi(ends.back(), &last) || first < 0 || last < first || last >= CPU_SETSIZE) {
      return bad();
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

absl::StatusOr<std::vector<int>> CpusOfNode(int node, const std::string& sysfs) {
  const std::string path = absl::StrCat(sysfs, "/devices/system/node/node", node, "/cpulist");
  const auto line = ReadLine(path);
  if (!line.has_value()) {
    return absl::NotFoundError(absl::StrCat("no NUMA node ", node, ": cannot read ", path));
  }
  return ParseCpuList(*line);
}

absl::Status PreferNode(void* data, Bytes size, int node) {
  constexpr size_t kBits = sizeof(unsigned long) * CHAR_BIT;  // NOLINT(google-runtime-int)
  constexpr size_t kNodes = 1024;
  if (node < 0 || static_cast<size_t>(node) >= kNodes) {
    return absl::InvalidArgumentError(absl::StrCat("NUMA node ", node, "; want 0 to 1023"));
  }
  unsigned long mask[kNodes / kBits] = {};  // NOLINT(google-runtime-int): mbind's
  mask[static_cast<size_t>(node) / kBits] = 1UL << (static_cast<size_t>(node) % kBits);
  if (syscall(SYS_mbind, data, size.size(), MPOL_PREFERRED, mask, kNodes, 0U) == 0) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("mbind to NUMA node ", node, ": ", std::strerror(errno)));
}

absl::Status RunOnNode(int node, const std::string& sysfs) {
  const absl::StatusOr<std::vector<int>> cpus = CpusOfNode(node, sysfs);
  if (!cpus.ok()) return cpus.status();
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : *cpus) CPU_SET(static_cast<size_t>(cpu), &set);
  if (sched_setaffinity(0, sizeof(set), &set) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "cannot run on the ", cpus->size(), " CPUs of NUMA node ", node, ": ", std::strerror(errno)));
}

}  // namespace sluice::cuda
