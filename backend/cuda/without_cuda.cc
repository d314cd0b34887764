// The CUDA backend of builds that have none.
#include "backend/cuda/cuda_backend.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<Backend>> CudaBackend::Create(
    const ModelConfig& /*config*/, const Checkpoint& /*checkpoint*/,
    const CudaBackendOptions& /*options*/) {
  return absl::UnimplementedError(
      "this binary was built without CUDA; install the CUDA toolkit (13.0 or later) and build with "
      "`cmake --preset cuda && cmake --build build/cuda --target sluice`, or use --backend=cpu");
}

}  // namespace sluice
