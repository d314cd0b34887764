#include "service/cli/machine_info.h"

#include <sched.h>
#include <sys/utsname.h>

#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "service/config/memory.h"

namespace sluice {

std::string CpuModelName(const std::string& cpuinfo) {
  for (absl::string_view line : absl::StrSplit(cpuinfo, '\n')) {
    if (!absl::StartsWith(line, "model name")) continue;
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) continue;
    return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return "unknown";
}

MachineInfo GetMachineInfo() {
  MachineInfo info;
  std::ifstream file("/proc/cpuinfo");
  std::ostringstream text;
  text << file.rdbuf();
  info.cpu = CpuModelName(text.str());
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) info.cpus = CPU_COUNT(&allowed);
  info.memory_gib = static_cast<double>(MemoryLimit().value()) / (1024.0 * 1024 * 1024);
  utsname name;
  if (uname(&name) == 0) info.kernel = absl::StrCat(name.sysname, " ", name.release);
  return info;
}

std::string UtcDate(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

}  // namespace sluice
