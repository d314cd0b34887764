// CudaConfig: what `sluice serve --backend=cuda` can be told besides what every backend can.
#pragma once

#include <string>

#include "service/config/flag_set.h"

namespace sluice {

struct CudaConfig {
  std::string device;                   // empty: the first
  double gpu_memory_utilization = 0.9;  // of the device's memory, by all processes together
};

// Defines the flags (and file keys) of `config` in `flags`.
void DefineCudaFlags(FlagSet& flags, CudaConfig* config);

}  // namespace sluice
