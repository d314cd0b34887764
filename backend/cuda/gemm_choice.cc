#include "backend/cuda/gemm_choice.h"

#include "backend/cuda/gpu/gpu.h"
#include "scheduler/base/units.h"

#if !defined(SLUICE_CUDA_EMU)
#include "backend/cuda/kernels/cublaslt_gemm.h"
#endif

namespace sluice::cuda {

absl::StatusOr<std::unique_ptr<GemmEngine>> MakeServingGemmEngine(bool batch_invariant) {
  if (batch_invariant) return MakePlainGemmEngine();
#if defined(SLUICE_CUDA_EMU)
  return MakePlainGemmEngine();
#else
  return MakeCublasLtGemmEngine(MiB(32));  // what NVIDIA recommends for Hopper and later
#endif
}

}  // namespace sluice::cuda
