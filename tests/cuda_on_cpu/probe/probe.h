// What the emulation promises to share with CUDA, printed line by line.
#pragma once

#if defined(SLUICE_CUDA_EMU)
#include "cuda_emu/device.h"
#include "cuda_emu/runtime.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#endif

namespace sluice::probe {

// Types, values, sizes.
void PrintApi();
// A hash per conversion between float and the small formats, over all codes and a sample of floats.
void PrintFloats();

}  // namespace sluice::probe
