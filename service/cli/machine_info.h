// The machine a measurement was taken on.
#pragma once

#include <string>

#include "absl/time/time.h"

namespace sluice {

struct MachineInfo {
  std::string cpu;  // model name, or "unknown"
  int cpus = 0;     // this process may run on
  double memory_gib = 0;
  std::string kernel;
};

MachineInfo GetMachineInfo();

// The "model name" in the text of /proc/cpuinfo, or "unknown".
std::string CpuModelName(const std::string& cpuinfo);

// "2026-03-01T12:00:00Z".
std::string UtcDate(absl::Time time);

}  // namespace sluice
