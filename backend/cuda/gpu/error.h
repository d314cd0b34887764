// error.h: from cudaError_t to absl::Status, for host code of every layer.
//
// Most errors concern one call (no memory, a bad argument). A "sticky" one has destroyed the
// process's context on the device: every later call fails with it, nothing runs any more, and only
// a new process helps.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "backend/cuda/gpu/gpu.h"

namespace sluice::cuda {

// Whether the error means that the context is lost, by the error's documentation in
// driver_types.h ("must be terminated and relaunched").
bool IsSticky(cudaError_t error);

// OK for cudaSuccess. Otherwise "<what>: <CUDA's name> (<CUDA's text>); <what to do>":
//   RESOURCE_EXHAUSTED   no memory
//   FAILED_PRECONDITION  no driver, no device, driver too old, device busy
//   UNIMPLEMENTED        the device or system cannot do it
//   UNAVAILABLE          sticky
//   INTERNAL             anything else: a mistake of ours
absl::Status CudaStatus(cudaError_t error, std::string_view what);

}  // namespace sluice::cuda
