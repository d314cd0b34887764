// GemmEngine: who does the matrix products of a forward pass.
//
//   plain      our own kernel (gemm.h); always there, also under emulation
//   cublaslt   NVIDIA's library (cublaslt_gemm.h), in builds with the toolkit
//
// Thread-compatible; one stream at a time, since products share the engine's workspace.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "backend/cuda/kernels/gemm.h"

namespace sluice::cuda {

class GemmEngine {
 public:
  virtual ~GemmEngine() = default;

  virtual std::string_view name() const = 0;  // "plain", "cublaslt"

  // Before the first product of weights in 8 bits (GemmParams::b_scales), where the engine
  // multiplies those in 8 bits: room for up to `rows` rows, `k` deep and `n` wide.
  // Returns RESOURCE_EXHAUSTED if the device has none.
  virtual absl::Status ReserveFp8(int32_t /*rows*/, int32_t /*k*/, int32_t /*n*/) {
    return absl::OkStatus();
  }

  // Enqueues one product. REQUIRES what GemmParams says.
  // Returns INTERNAL with the library's or the runtime's name of the error.
  virtual absl::Status Run(const GemmParams& params, cudaStream_t stream) = 0;
};

std::unique_ptr<GemmEngine> MakePlainGemmEngine();

}  // namespace sluice::cuda
