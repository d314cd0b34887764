#include "backend/cuda/gpu/error.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace sluice::cuda {
namespace {

// What a person can do about it, or nothing.
const char* Remedy(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "; ask for less memory, or stop what else uses it";
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
      return "; install a driver for this version of CUDA (nvidia-smi shows the present one)";
    case cudaErrorNoDevice:
      return "; check nvidia-smi, CUDA_VISIBLE_DEVICES, and that the container was given a GPU";
    case cudaErrorDevicesUnavailable:
      return "; another process holds it exclusively (nvidia-smi -q -d COMPUTE)";
    case cudaErrorNoKernelImageForDevice:
      return "; this build has no code for it: add its architecture to CMAKE_CUDA_ARCHITECTURES";
    case cudaErrorNotPermitted:
      return "; a CUDA call from where none is allowed";
    case cudaErrorECCUncorrectable:
      return "; the memory is broken: nvidia-smi -q -d ECC, then reset or replace the device, and "
             "restart the process";
    case cudaErrorNotSupported:
      return "; neither this device nor its driver can do it: choose another with --device, or run "
             "with --backend=cpu";
    default:
      return IsSticky(error) ? "; nothing works on the device any more: restart the process"
                             : "; a mistake of this program: please report this line";
  }
}

absl::StatusCode CodeOf(cudaError_t error) {
  if (IsSticky(error)) return absl::StatusCode::kUnavailable;
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::StatusCode::kResourceExhausted;
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorInitializationError:
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoDevice:
    case cudaErrorNoKernelImageForDevice:
      return absl::StatusCode::kFailedPrecondition;
    case cudaErrorNotSupported:
      return absl::StatusCode::kUnimplemented;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

bool IsSticky(cudaError_t error) {
  // By number: the emulation does not know all names.
  switch (static_cast<int>(error)) {
    case 214:  // ECCUncorrectable
    case 220:  // NvlinkUncorrectable
    case 226:  // Contained
    case 700:  // IllegalAddress
    case 702:  // LaunchTimeout
    case 709:  // ContextIsDestroyed
    case 710:  // Assert
    case 714:  // HardwareStackError
    case 715:  // IllegalInstruction
    case 716:  // MisalignedAddress
    case 717:  // InvalidAddressSpace
    case 718:  // InvalidPc
    case 719:  // LaunchFailure
    case 721:  // TensorMemoryLeak
    case 911:  // ExternalDevice
    case 999:  // Unknown
      return true;
    default:
      return false;
  }
}

absl::Status CudaStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::Status(CodeOf(error),
                      absl::StrCat(std::string(what), ": ", cudaGetErrorName(error), " (",
                                   cudaGetErrorString(error), ")", Remedy(error)));
}

}  // namespace sluice::cuda
