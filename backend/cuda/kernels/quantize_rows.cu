#include "backend/cuda/kernels/quantize_rows.h"

#include "backend/cuda/kernels/half.cuh"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr float kLargestCode = 448.0F;
constexpr float kSmallest = 0x1p-100F;  // whose inverse is a float, with room

// Elements [at, at + kWidth) of a row; zero beyond k. kWide: 8, read at once.
template <class Half, bool kWide>
struct Piece {
  static constexpr int kWidth = kWide ? 8 : 1;
  float x[kWidth];

  __device__ __forceinline__ void Read(const typename Half::Type* row, int at) {
    if constexpr (kWide) {
      const uint4 words = gpu::load_global(reinterpret_cast<const uint4*>(row + at));
      const uint32_t word[4] = {words.x, words.y, words.z, words.w};
      SLUICE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float2 two = Half::Unpack(word[i]);
        x[2 * i] = two.x;
        x[2 * i + 1] = two.y;
      }
    } else {
      x[0] = static_cast<float>(row[at]);
    }
  }

  __device__ __forceinline__ void Write(float inverse, unsigned char* codes, int at) const {
    uint32_t code[kWidth];
    SLUICE_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      code[i] = __nv_cvt_float_to_fp8(x[i] * inverse, __NV_SATFINITE, __NV_E4M3);
    }
    if constexpr (kWide) {
      gpu::store_global(reinterpret_cast<uint2*>(codes + at),
                        make_uint2(code[0] | code[1] << 8 | code[2] << 16 | code[3] << 24,
                                   code[4] | code[5] << 8 | code[6] << 16 | code[7] << 24));
    } else {
      gpu::store_global(codes + at, static_cast<unsigned char>(code[0]));
    }
  }
};

// One block per row. Bytes: k * (2 + 1) of the row, whose second reading comes from L1 or L2, and a
// scale. Bound by memory bandwidth, and for few rows by latency.
template <class Half, bool kWide>
__global__ void __launch_bounds__(kThreads)
    QuantizeRowsKernel(const __grid_constant__ QuantizeRowsParams p) {
  SLUICE_SHARED(float[kWarps], largests);
  const int64_t row = blockIdx.x;
  const auto* from = static_cast<const typename Half::Type*>(p.x) + row * p.stride;
  auto* codes = static_cast<unsigned char*>(p.codes) + row * p.k;
  using Part = Piece<Half, kWide>;
  const int first = static_cast<int>(threadIdx.x) * Part::kWidth;
  constexpr int kStride = kThreads * Part::kWidth;
  float largest = 0;
  for (int at = first; at < p.k; at += kStride) {
    Part piece;
    piece.Read(from, at);
    SLUICE_UNROLL
    for (int i = 0; i < Part::kWidth; ++i) {
      // fmaxf() would forget a NaN.
      const float size = fabsf(piece.x[i]);
      largest = fmaxf(largest, size < INFINITY ? size : INFINITY);
    }
  }
  largest = WarpMax(largest);
  if (gpu::lane_id() == 0) largests[threadIdx.x / 32] = largest;
  __syncthreads();
  SLUICE_UNROLL
  for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, largests[w]);
  const bool zero = largest < kSmallest;
  if (threadIdx.x == 0) {
    // inf - inf: a NaN.
    p.scales[row] = zero ? 1.0F : largest < INFINITY ? largest / kLargestCode : largest - largest;
  }
  const float inverse = zero ? 1.0F : kLargestCode / largest;
  for (int at = first; at < p.k; at += kStride) {
    Part piece;
    piece.Read(from, at);
    piece.Write(inverse, codes, at);
  }
}

}  // namespace

cudaError_t LaunchQuantizeRows(const QuantizeRowsParams& params, cudaStream_t stream) {
  if (params.rows == 0) return cudaSuccess;
  const bool wide = params.k % 8 == 0 && params.stride % 8 == 0 &&
                    reinterpret_cast<uintptr_t>(params.x) % 16 == 0 &&
                    reinterpret_cast<uintptr_t>(params.codes) % 8 == 0;
  return WithHalf(params.half, [&](auto tag) {
    using Half = decltype(tag);
    return gpu::Launch("quantize_rows",
                       wide ? &QuantizeRowsKernel<Half, true> : &QuantizeRowsKernel<Half, false>,
                       dim3(static_cast<unsigned>(params.rows)), dim3(kThreads), 0, stream, params);
  });
}

}  // namespace sluice::cuda
