// Fp8Product: a product of halves and E4M3 weights (GemmParams::b_scales) where both sides are
// multiplied as E4M3: the rows of `a` are quantized, codes are multiplied by someone who knows no
// scales (cuBLASLt), and the sums are scaled.
//
//   a (half) -> quantize_rows -> codes, row scales -> multiply -> raw (float) -> scale_product -> c
//
// Thread-compatible; one stream at a time, since products share the buffers.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "backend/cuda/gpu/gpu.h"
#include "backend/cuda/kernels/gemm.h"

namespace sluice::cuda {

class Fp8Product {
 public:
  Fp8Product() = default;
  ~Fp8Product();
  Fp8Product(const Fp8Product&) = delete;
  Fp8Product& operator=(const Fp8Product&) = delete;

  // Makes room for products of up to `rows` rows, `k` deep and `n` wide, on the current device.
  // Returns RESOURCE_EXHAUSTED if there is not that much memory.
  absl::Status Reserve(int32_t rows, int32_t k, int32_t n);

  // Whether Run() takes this: quantized weights, a shape that was reserved, sizes that 8-bit tensor
  // cores can address (k and n multiples of 16).
  bool Takes(const GemmParams& params) const;

  // What is multiplied with the weights, E4M3 [m][k], and where the sums go, [m][n].
  const void* codes() const { return codes_; }
  float* raw() const { return static_cast<float*>(raw_); }

  // Enqueues raw()[i][j] = sum_l codes()[i][l] * b[j][l].
  using Multiply = absl::FunctionRef<absl::Status()>;

  // Enqueues the product. Returns the runtime's error, or what `multiply` returns. REQUIRES:
  // Takes(params), m > 0, n > 0, k > 0.
  absl::Status Run(const GemmParams& params, Multiply multiply, cudaStream_t stream);

 private:
  void Free();

  int32_t rows_ = 0;
  int32_t k_ = 0;
  int32_t n_ = 0;
  void* codes_ = nullptr;  // [rows][k]
  void* scales_ = nullptr;
  void* raw_ = nullptr;  // float [rows][n]
};

}  // namespace sluice::cuda
