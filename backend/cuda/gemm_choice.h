// Who multiplies matrices when serving: cuBLASLt in the real build, our own kernel under emulation,
// which has no libraries of NVIDIA, and where a row's bits must not depend on its batch: cuBLASLt
// chooses its kernel by the number of rows and promises nothing of the kind.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "backend/cuda/kernels/gemm_engine.h"

namespace sluice::cuda {

// For the current device. `batch_invariant`: our own kernel (gemm.h). Errors: see cublaslt_gemm.h.
absl::StatusOr<std::unique_ptr<GemmEngine>> MakeServingGemmEngine(bool batch_invariant = false);

}  // namespace sluice::cuda
