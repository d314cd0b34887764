// Matrix products by cuBLASLt. Only in builds with the CUDA toolkit's cuBLAS.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "backend/cuda/kernels/gemm_engine.h"
#include "scheduler/base/units.h"

namespace sluice::cuda {

// The engine allocates `workspace` bytes on the current device, once (NVIDIA recommends 32 MiB for
// Hopper and later, 4 MiB before), and remembers the library's choice of algorithm per shape, for
// at most 4096 shapes. Shapes for which the library has no algorithm are done by the plain kernel.
// Returns RESOURCE_EXHAUSTED if the workspace does not fit, INTERNAL if the library does not start.
absl::StatusOr<std::unique_ptr<GemmEngine>> MakeCublasLtGemmEngine(Bytes workspace);

}  // namespace sluice::cuda
