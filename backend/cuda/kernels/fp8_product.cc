#include "backend/cuda/kernels/fp8_product.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "backend/cuda/gpu/error.h"
#include "backend/cuda/kernels/quantize_rows.h"
#include "backend/cuda/kernels/scale_product.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

absl::Status Allocate(int64_t bytes, void** to) {
  const cudaError_t error = cudaMalloc(to, static_cast<size_t>(bytes));
  if (error != cudaSuccess) *to = nullptr;
  return CudaStatus(error, absl::StrCat("want ", bytes, " bytes of device memory for products in ",
                                        "fp8 (see --max-num-batched-tokens)"));
}

}  // namespace

Fp8Product::~Fp8Product() { Free(); }

void Fp8Product::Free() {
  for (void** buffer : {&codes_, &scales_, &raw_}) {
    if (*buffer != nullptr) static_cast<void>(cudaFree(*buffer));
    *buffer = nullptr;
  }
  rows_ = k_ = n_ = 0;
}

absl::Status Fp8Product::Reserve(int32_t rows, int32_t k, int32_t n) {
  Free();
  SLUICE_RETURN_IF_ERROR(Allocate(int64_t{rows} * k, &codes_));
  SLUICE_RETURN_IF_ERROR(Allocate(int64_t{rows} * static_cast<int64_t>(sizeof(float)), &scales_));
  SLUICE_RETURN_IF_ERROR(Allocate(int64_t{rows} * n * static_cast<int64_t>(sizeof(float)), &raw_));
  rows_ = rows;
  k_ = k;
  n_ = n;
  return absl::OkStatus();
}

bool Fp8Product::Takes(const GemmParams& params) const {
  return params.b_scales != nullptr && params.m <= rows_ && params.k <= k_ && params.n <= n_ &&
         params.k % 16 == 0 && params.n % 16 == 0;
}

absl::Status Fp8Product::Run(const GemmParams& params, Multiply multiply, cudaStream_t stream) {
  QuantizeRowsParams quantize;
  quantize.x = params.a;
  quantize.stride = params.a_stride;
  quantize.codes = codes_;
  quantize.scales = static_cast<float*>(scales_);
  quantize.rows = params.m;
  quantize.k = params.k;
  quantize.half = params.half;
  SLUICE_RETURN_IF_ERROR(CudaStatus(LaunchQuantizeRows(quantize, stream), "quantize_rows"));
  SLUICE_RETURN_IF_ERROR(multiply());
  ScaleProductParams scale;
  scale.raw = static_cast<const float*>(raw_);
  scale.rows = static_cast<const float*>(scales_);
  scale.columns = params.b_scales;
  scale.bias = params.bias;
  scale.c = params.c;
  scale.float_out = params.float_out;
  scale.m = params.m;
  scale.n = params.n;
  scale.half = params.half;
  return CudaStatus(LaunchScaleProduct(scale, stream), "scale_product");
}

}  // namespace sluice::cuda
