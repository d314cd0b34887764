// CudaConfig: what `sluice serve --backend=cuda` can be told besides what every backend can.
#pragma once

#include <string>

#include "service/config/flag_set.h"

namespace sluice {

struct CudaConfig {
  std::string device;                   // empty: the first
  double gpu_memory_utilization = 0.9;  // of the device's memory, by all processes together
  std::string kv_cache_dtype = "auto";  // of KV on the device: auto (the model's) | fp8 | int8
  std::string quantization = "none";    // of the layers' weights, when loaded: none | fp8
  bool batch_invariant = false;         // results of a request do not depend on its batch

  bool quantizes_kv() const { return kv_cache_dtype != "auto"; }
};

// Defines the flags (and file keys) of `config` in `flags`.
void DefineCudaFlags(FlagSet& flags, CudaConfig* config);

}  // namespace sluice
