// Who multiplies matrices when serving: cuBLASLt in the real build, our own kernel under emulation,
// which has no libraries of NVIDIA.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "backend/cuda/kernels/gemm_engine.h"

namespace sluice::cuda {

// For the current device. Errors: see cublaslt_gemm.h.
absl::StatusOr<std::unique_ptr<GemmEngine>> MakeServingGemmEngine();

}  // namespace sluice::cuda
