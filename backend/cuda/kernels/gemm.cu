#include "backend/cuda/kernels/gemm.h"

#include "backend/cuda/kernels/half.cuh"

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
template <class Half, class Shape, bool kWide>
__global__ void __launch_bounds__(Shape::kThreads)
    GemmKernel(const __grid_constant__ GemmParams p) {
  using Element = typename Half::Type;
  SLUICE_DYNAMIC_SMEM(raw);
  gpu::SharedCarver carver(raw);
  const GemmShared<Half, Shape> shared(carver);
  const int column = static_cast<int>(blockIdx.x) * Shape::kTileN;
  const int row = static_cast<int>(blockIdx.y) * Shape::kTileM;
  const int steps = (p.k + Shape::kTileK - 1) / Shape::kTileK;
  const auto load = [&](int step) {
    const int buffer = step % Shape::kStages;
    const int at = step * Shape::kTileK;
    LoadOperand<Shape, kWide, Shape::kTileM>(shared.a + buffer * Shape::kTileM * Shape::kTileK,
                                             static_cast<const Element*>(p.a), p.a_stride, row, p.m,
                                             at, p.k);
    LoadOperand<Shape, kWide, Shape::kTileN>(shared.b + buffer * Shape::kTileN * Shape::kTileK,
                                             static_cast<const Element*>(p.b), p.k, column, p.n, at,
                                             p.k);
  };
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_row = warp % Shape::kWarpsM * Shape::kWarpM;
  const int warp_column = warp / Shape::kWarpsM * Shape::kWarpN;
  WarpProduct<Half, Shape> product;
  product.Clear();
  if (steps > 0) load(0);
  gpu::cp_async_commit();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) load(step + 1);
    gpu::cp_async_commit();
    gpu::cp_async_wait<1>();
    __syncthreads();
    const int buffer = step % Shape::kStages;
    product.Add(shared.a + buffer * Shape::kTileM * Shape::kTileK,
                shared.b + buffer * Shape::kTileN * Shape::kTileK, warp_row, warp_column);
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

template <class Half, class Shape>
cudaError_t LaunchShape(const GemmParams& params, cudaStream_t stream) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  const bool wide =
      params.k % 8 == 0 && params.a_stride % 8 == 0 && aligned(params.a) && aligned(params.b);
  const auto kernel = wide ? &GemmKernel<Half, Shape, true> : &GemmKernel<Half, Shape, false>;
  const size_t shared_bytes = GemmShared<Half, Shape>::Bytes();
  const dim3 grid(static_cast<unsigned>((params.n + Shape::kTileN - 1) / Shape::kTileN),
                  static_cast<unsigned>((params.m + Shape::kTileM - 1) / Shape::kTileM));
  return gpu::Launch("gemm", kernel, grid, dim3(Shape::kThreads), shared_bytes, stream, params);
}

}  // namespace

cudaError_t LaunchGemm(const GemmParams& params, cudaStream_t stream) {
  if (params.m == 0 || params.n == 0) return cudaSuccess;
  return WithHalf(params.half, [&](auto tag) {
    using Half = decltype(tag);
    return params.m <= 16 ? LaunchShape<Half, FewRows>(params, stream)
                          : LaunchShape<Half, ManyRows>(params, stream);
  });
}

}  // namespace sluice::cuda
