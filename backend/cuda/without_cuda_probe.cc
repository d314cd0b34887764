// The probe of builds that have no CUDA.
#include "backend/cuda/device_probe.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<CudaProbe>> CudaProbe::Open(const std::string& /*device*/,
                                                           Bytes /*large*/,
                                                           const ProbeControl& /*control*/) {
  return absl::UnimplementedError(
      "this binary was built without CUDA and cannot measure a GPU; install the CUDA toolkit (13.0 "
      "or later) and build with `cmake --preset cuda && cmake --build build/cuda --target sluice`, "
      "or plan with a built-in profile (sluice plan --list)");
}

}  // namespace sluice
