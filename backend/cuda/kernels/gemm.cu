#include "backend/cuda/kernels/gemm.h"

#include "backend/cuda/kernels/half.cuh"
#include "backend/cuda/kernels/quantized.cuh"

namespace sluice::cuda {
namespace {

// kTileM x kTileN of c per block, kWarpsM x kWarpsN warps, kTileK of k at a time in two buffers.
template <int kTileMValue, int kTileNValue, int kWarpsMValue, int kWarpsNValue>
struct GemmShape {
  static constexpr int kTileM = kTileMValue;
  static constexpr int kTileN = kTileNValue;
  static constexpr int kTileK = 64;
  static constexpr int kWarpsM = kWarpsMValue;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsNValue;
  static constexpr int kWarpM = kTileM / kWarpsM;
  static constexpr int kWarpN = kTileN / kWarpsNValue;
  static constexpr int kStages = 2;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0);
};
using FewRows = GemmShape<16, 64, 1, 4>;
using ManyRows = GemmShape<64, 64, 2, 2>;

template <class Half, class Shape>
struct GemmShared {
  typename Half::Type* a;  // [kStages][kTileM][kTileK], swizzled
  typename Half::Type* b;  // [kStages][kTileN][kTileK]
  __host__ __device__ explicit GemmShared(gpu::SharedCarver& carver)
      : a(carver.Take<typename Half::Type>(Shape::kStages * Shape::kTileM * Shape::kTileK)),
        b(carver.Take<typename Half::Type>(Shape::kStages * Shape::kTileN * Shape::kTileK)) {}
  static size_t Bytes() {
    gpu::SharedCarver carver(nullptr);
    const GemmShared shared(carver);
    static_cast<void>(shared);
    return carver.bytes();
  }
};

// Copies rows [first, first + kRows) x columns [at, at + kTileK) of a matrix into shared memory,
// zero beyond its ends. kWide: rows start at multiples of 16 bytes and k is a multiple of 8.
template <class Shape, bool kWide, int kRows, class Element>
__device__ __forceinline__ void LoadOperand(Element* to, const Element* from, int64_t stride,
                                            int first, int rows, int at, int k) {
  constexpr int kChunks = Shape::kTileK / 8;
  SLUICE_UNROLL
  for (int i = 0; i < (kRows * kChunks + Shape::kThreads - 1) / Shape::kThreads; ++i) {
    const int c = static_cast<int>(threadIdx.x) + i * Shape::kThreads;
    const int row = c / kChunks;
    const int column = at + c % kChunks * 8;
    if (kRows * kChunks % Shape::kThreads != 0 && row >= kRows) break;
    Element* place = to + Swizzle<Shape::kTileK>::At(row, c % kChunks);
    const bool valid = first + row < rows && column < k;
    const Element* source = from + (valid ? (first + row) * stride + column : 0);
    if constexpr (kWide) {
      gpu::cp_async16(place, source, valid);
    } else {
      SLUICE_UNROLL
      for (int e = 0; e < 8; ++e) {
        const bool inside = valid && column + e < k;
        gpu::store_shared(
            reinterpret_cast<uint16_t*>(place + e),
            inside ? gpu::load_global(reinterpret_cast<const uint16_t*>(source + e)) : uint16_t{0});
      }
    }
  }
}

// The same of a matrix of E4M3 codes, in two parts: into registers, then widened into shared
// memory. kWide: rows start at multiples of 16 bytes and k is a multiple of 16.
template <class Half, class Shape, bool kWide>
struct CodeTile {
  static constexpr int kChunks = Shape::kTileK / 16;
  static constexpr int kMine = Shape::kTileN * kChunks / Shape::kThreads;
  static_assert(kMine * Shape::kThreads == Shape::kTileN * kChunks);
  uint4 codes[kMine];

  __device__ __forceinline__ void Read(const unsigned char* from, int first, int rows, int at,
                                       int k) {
    SLUICE_UNROLL
    for (int i = 0; i < kMine; ++i) {
      const int c = static_cast<int>(threadIdx.x) + i * Shape::kThreads;
      const int row = first + c / kChunks;
      const int column = at + c % kChunks * 16;
      codes[i] = make_uint4(0, 0, 0, 0);
      if (row >= rows || column >= k) continue;
      const unsigned char* source = from + static_cast<int64_t>(row) * k + column;
      if constexpr (kWide) {
        codes[i] = gpu::ldg128(source);
      } else {
        uint32_t words[4] = {0, 0, 0, 0};
        SLUICE_UNROLL
        for (int e = 0; e < 16; ++e) {
          if (column + e < k) {
            words[e / 4] |= static_cast<uint32_t>(gpu::load_global_nc(source + e)) << (e % 4 * 8);
          }
        }
        codes[i] = make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
  }

  __device__ __forceinline__ void Write(typename Half::Type* to) const {
    SLUICE_UNROLL
    for (int i = 0; i < kMine; ++i) {
      const int c = static_cast<int>(threadIdx.x) + i * Shape::kThreads;
      const int row = c / kChunks;
      const int chunk = c % kChunks * 2;
      const uint2 a = Dequantize4<Half>(codes[i].x, 1.0F, KvType::kFp8E4m3);
      const uint2 b = Dequantize4<Half>(codes[i].y, 1.0F, KvType::kFp8E4m3);
      gpu::sts128(to + Swizzle<Shape::kTileK>::At(row, chunk), make_uint4(a.x, a.y, b.x, b.y));
      const uint2 d = Dequantize4<Half>(codes[i].z, 1.0F, KvType::kFp8E4m3);
      const uint2 e = Dequantize4<Half>(codes[i].w, 1.0F, KvType::kFp8E4m3);
      gpu::sts128(to + Swizzle<Shape::kTileK>::At(row, chunk + 1), make_uint4(d.x, d.y, e.x, e.y));
    }
  }
};

template <class Half, class Shape>
struct WarpProduct {
  static constexpr int kRowTiles = Shape::kWarpM / 16;
  static constexpr int kColumnTiles = Shape::kWarpN / 8;
  float c[kRowTiles][kColumnTiles][4];

  __device__ __forceinline__ void Clear() {
    SLUICE_UNROLL
    for (int i = 0; i < kRowTiles; ++i) {
      SLUICE_UNROLL
      for (int j = 0; j < kColumnTiles; ++j) c[i][j][0] = c[i][j][1] = c[i][j][2] = c[i][j][3] = 0;
    }
  }

  // Adds the product of what one buffer holds; the warp's part starts at (row, column).
  template <class Element>
  __device__ __forceinline__ void Add(const Element* a, const Element* b, int row, int column) {
    using At = Swizzle<Shape::kTileK>;
    const int lane = gpu::lane_id();
    SLUICE_UNROLL
    for (int step = 0; step < Shape::kTileK / 16; ++step) {
      uint32_t left[kRowTiles][4];
      SLUICE_UNROLL
      for (int i = 0; i < kRowTiles; ++i) {
        gpu::ldmatrix_x4<false>(left[i],
                                a + At::At(row + i * 16 + (lane & 15), step * 2 + lane / 16));
      }
      SLUICE_UNROLL
      for (int j = 0; j < kColumnTiles; j += 2) {
        uint32_t right[4];
        gpu::ldmatrix_x4<false>(right, b + At::At(column + j * 8 + (lane & 7) + lane / 16 * 8,
                                                  step * 2 + ((lane >> 3) & 1)));
        SLUICE_UNROLL
        for (int i = 0; i < kRowTiles; ++i) {
          Half::Mma(c[i][j], left[i], right[0], right[1]);
          Half::Mma(c[i][j + 1], left[i], right[2], right[3]);
        }
      }
    }
  }
};

// Writes c[row][column] and its neighbour to the right, as far as they exist.
template <class Half>
__device__ __forceinline__ void WritePair(const GemmParams& p, int row, int column, float x,
                                          float y) {
  if (row >= p.m || column >= p.n) return;
  const bool two = column + 1 < p.n;
  if (p.b_scales != nullptr) {
    x *= p.b_scales[column];
    if (two) y *= p.b_scales[column + 1];
  }
  if (p.bias != nullptr) {
    const auto* bias = static_cast<const typename Half::Type*>(p.bias) + column;
    x += static_cast<float>(bias[0]);
    if (two) y += static_cast<float>(bias[1]);
  }
  const int64_t at = static_cast<int64_t>(row) * p.n + column;
  const bool wide = two && p.n % 2 == 0;
  if (p.float_out) {
    float* c = static_cast<float*>(p.c) + at;
    if (wide) {
      gpu::store_global(reinterpret_cast<float2*>(c), make_float2(x, y));
      return;
    }
    gpu::store_global(c, x);
    if (two) gpu::store_global(c + 1, y);
    return;
  }
  auto* c = reinterpret_cast<uint16_t*>(p.c) + at;
  const uint32_t word = Half::Pack(x, y);
  if (wide) {
    gpu::store_global(reinterpret_cast<uint32_t*>(c), word);
    return;
  }
  gpu::store_global(c, static_cast<uint16_t>(word & 0xffffu));
  if (two) gpu::store_global(c + 1, static_cast<uint16_t>(word >> 16));
}

// FLOPs: 2 m n k. Bytes: (n / kTileN) m k + (m / kTileM) n k elements through L2, each of a and b
// at least once from memory: bound by the bytes of b up to m = 64 or so, by tensor cores beyond.
// kCodes: b has half the bytes; widening costs some 3 instructions per code and tile of m.
template <class Half, class Shape, bool kWide, bool kCodes>
__global__ void __launch_bounds__(Shape::kThreads)
    GemmKernel(const __grid_constant__ GemmParams p) {
  using Element = typename Half::Type;
  SLUICE_DYNAMIC_SMEM(raw);
  gpu::SharedCarver carver(raw);
  const GemmShared<Half, Shape> shared(carver);
  const int column = static_cast<int>(blockIdx.x) * Shape::kTileN;
  const int row = static_cast<int>(blockIdx.y) * Shape::kTileM;
  const int steps = (p.k + Shape::kTileK - 1) / Shape::kTileK;
  CodeTile<Half, Shape, kWide> codes;
  const auto weights = [&](int step) {
    return shared.b + step % Shape::kStages * Shape::kTileN * Shape::kTileK;
  };
  const auto load = [&](int step) {
    const int at = step * Shape::kTileK;
    LoadOperand<Shape, kWide, Shape::kTileM>(
        shared.a + step % Shape::kStages * Shape::kTileM * Shape::kTileK,
        static_cast<const Element*>(p.a), p.a_stride, row, p.m, at, p.k);
    if constexpr (kCodes) {
      codes.Read(static_cast<const unsigned char*>(p.b), column, p.n, at, p.k);
    } else {
      LoadOperand<Shape, kWide, Shape::kTileN>(weights(step), static_cast<const Element*>(p.b), p.k,
                                               column, p.n, at, p.k);
    }
  };
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_row = warp % Shape::kWarpsM * Shape::kWarpM;
  const int warp_column = warp / Shape::kWarpsM * Shape::kWarpN;
  WarpProduct<Half, Shape> product;
  product.Clear();
  if (steps > 0) {
    load(0);
    if constexpr (kCodes) codes.Write(weights(0));
  }
  gpu::cp_async_commit();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) load(step + 1);
    gpu::cp_async_commit();
    gpu::cp_async_wait<1>();
    __syncthreads();
    product.Add(shared.a + step % Shape::kStages * Shape::kTileM * Shape::kTileK, weights(step),
                warp_row, warp_column);
    if constexpr (kCodes) {
      // The other buffer: whoever read it last is behind the barrier that ended the step before.
      if (step + 1 < steps) codes.Write(weights(step + 1));
    }
    __syncthreads();
  }
  const int lane = gpu::lane_id();
  using Product = WarpProduct<Half, Shape>;
  SLUICE_UNROLL
  for (int i = 0; i < Product::kRowTiles; ++i) {
    SLUICE_UNROLL
    for (int j = 0; j < Product::kColumnTiles; ++j) {
      const int r = row + warp_row + i * 16 + lane / 4;
      const int c = column + warp_column + j * 8 + lane % 4 * 2;
      WritePair<Half>(p, r, c, product.c[i][j][0], product.c[i][j][1]);
      WritePair<Half>(p, r + 8, c, product.c[i][j][2], product.c[i][j][3]);
    }
  }
}

template <class Half, class Shape, bool kCodes>
cudaError_t LaunchShape(const GemmParams& params, cudaStream_t stream) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  const bool wide = params.k % (kCodes ? 16 : 8) == 0 && params.a_stride % 8 == 0 &&
                    aligned(params.a) && aligned(params.b);
  const auto kernel =
      wide ? &GemmKernel<Half, Shape, true, kCodes> : &GemmKernel<Half, Shape, false, kCodes>;
  const size_t shared_bytes = GemmShared<Half, Shape>::Bytes();
  const dim3 grid(static_cast<unsigned>((params.n + Shape::kTileN - 1) / Shape::kTileN),
                  static_cast<unsigned>((params.m + Shape::kTileM - 1) / Shape::kTileM));
  return gpu::Launch(kCodes ? "gemm_fp8" : "gemm", kernel, grid, dim3(Shape::kThreads),
                     shared_bytes, stream, params);
}

}  // namespace

cudaError_t LaunchGemm(const GemmParams& params, cudaStream_t stream) {
  if (params.m == 0 || params.n == 0) return cudaSuccess;
  return WithHalf(params.half, [&](auto tag) {
    using Half = decltype(tag);
    if (params.b_scales != nullptr) {
      return params.m <= 16 ? LaunchShape<Half, FewRows, true>(params, stream)
                            : LaunchShape<Half, ManyRows, true>(params, stream);
    }
    return params.m <= 16 ? LaunchShape<Half, FewRows, false>(params, stream)
                          : LaunchShape<Half, ManyRows, false>(params, stream);
  });
}

}  // namespace sluice::cuda
