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
  flags.Choice("kv-cache-dtype", &c->kv_cache_dtype, {"auto", "fp8", "int8"},
               "type of KV on the device, and with --kv-host-codec=raw on the host: auto is the "
               "model's (bf16); fp8 and int8 hold 1.9 times the tokens and move half the bytes");
  flags.Choice("quantization", &c->quantization, {"none", "fp8"},
               "fp8 quantizes the layers' weights when they are loaded (E4M3, a scale per output "
               "channel): half their memory; products are in fp8 where the GPU has it (sm_89 on)");
  flags.Bool(
      "batch-invariant", &c->batch_invariant,
      "the same tokens for a request, bit for bit, whatever runs beside it and wherever its KV "
      "has been: matrix products by our own kernel, slower than cuBLASLt; always so on cpu");
}

}  // namespace sluice
