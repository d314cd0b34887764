#include "service/config/cuda_config.h"

namespace sluice {

void DefineCudaFlags(FlagSet& flags, CudaConfig* c) {
  flags.Group("NVIDIA GPU (--backend=cuda)");
  flags.String(
      "device", &c->device, "N|UUID|PCI",
      "which GPU: its number, its UUID or the beginning of it, or its PCI address (default: "
      "the first)");
  flags.Number("gpu-memory-utilization", &c->gpu_memory_utilization, 0.01, 1, "SHARE",
               "share of the GPU's memory to use; what weights and activations leave of it is the "
               "device pool, unless that is given");
}

}  // namespace sluice
