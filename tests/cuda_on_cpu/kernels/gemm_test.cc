#include "backend/cuda/kernels/gemm.h"

#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {
namespace {

struct Case {
  int m, n, k;
  int gap = 0;  // elements between the rows of a
  bool bias = false;
  bool float_out = false;
  HalfType half = HalfType::kBf16;
};

void Check(const Case& c, uint64_t seed) {
  SCOPED_TRACE(::testing::Message() << c.m << " x " << c.n << " x " << c.k << " seed " << seed);
  Use(ScheduleOf(seed));
  std::mt19937_64 rng(seed);
  const auto m = static_cast<size_t>(c.m), n = static_cast<size_t>(c.n),
             k = static_cast<size_t>(c.k);
  const size_t stride = k + static_cast<size_t>(c.gap);
  std::vector<uint16_t> a = RandomHalves(c.half, m * stride, rng);
  for (size_t i = 0; i < a.size(); ++i) {
    if (i % stride >= k) a[i] = 0x7fff;  // NaN: nobody may read what lies between rows
  }
  const std::vector<uint16_t> b = RandomHalves(c.half, n * k, rng);
  const std::vector<uint16_t> bias = RandomHalves(c.half, c.bias ? n : 0, rng);
  const DeviceValues<uint16_t> d_a(a), d_b(b), d_bias(bias), half_out(c.float_out ? 0 : m * n);
  const DeviceValues<float> float_out(c.float_out ? m * n : 0);
  GemmParams params;
  params.a = d_a.data();
  params.a_stride = static_cast<int64_t>(stride);
  params.b = d_b.data();
  params.bias = d_bias.data();
  params.c = c.float_out ? static_cast<void*>(float_out.data()) : half_out.data();
  params.float_out = c.float_out;
  params.m = c.m;
  params.n = c.n;
  params.k = c.k;
  params.half = c.half;
  const TestStream stream;
  ASSERT_EQ(LaunchGemm(params, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  std::vector<double> want(m * n);
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = c.bias ? FromHalf(c.half, bias[j]) : 0;
      for (size_t l = 0; l < k; ++l) {
        sum += FromHalf(c.half, a[i * stride + l]) * FromHalf(c.half, b[j * k + l]);
      }
      want[i * n + j] = sum;
    }
  }
  const double size = std::sqrt(static_cast<double>(c.k) + 1);
  if (c.float_out) {
    ExpectClose(ToDoubles(float_out.Get()), want, {1e-5 * size, 1e-4, 1e-6});
  } else {
    const double epsilon = HalfEpsilon(c.half);
    ExpectClose(FromHalves(c.half, half_out.Get()), want,
                {8 * epsilon * size, 1.02 * epsilon, epsilon});
  }
}

class GemmTest : public KernelTest {};

TEST_F(GemmTest, ShapesAroundTilesAgreeWithDoublePrecision) {
  uint64_t seed = 1;
  for (const int m : {1, 2, 15, 16, 17, 63, 64, 65}) {
    for (const int n : {1, 7, 64, 65, 130}) {
      for (const int k : {8, 64, 72, 136}) {
        Case c{m, n, k};
        c.half = seed % 2 == 0 ? HalfType::kBf16 : HalfType::kF16;
        c.bias = seed % 3 == 0;
        c.float_out = seed % 5 == 0;
        Check(c, seed++);
      }
    }
  }
}

TEST_F(GemmTest, OddDepthsAndStridesTakeTheSlowWay) {
  uint64_t seed = 500;
  for (const int k : {0, 1, 3, 63, 65, 131}) {
    Check({5, 9, k, 0, true}, seed++);
    Check({33, 66, k, 5, false}, seed++);
  }
  Check({20, 12, 64, 4}, seed++);
  Check({20, 12, 64, 8}, seed++);
}

// A row has the same bits in every batch and at every place of it.
TEST_F(GemmTest, ARowDoesNotDependOnTheRowsBesideIt) {
  constexpr int kRows = 70, kColumns = 130;
  for (const int k : {72, 131, 640}) {
    std::mt19937_64 rng(static_cast<uint64_t>(k));
    const std::vector<uint16_t> a =
        RandomHalves(HalfType::kBf16, static_cast<size_t>(kRows * k), rng);
    const DeviceValues<uint16_t> b(
        RandomHalves(HalfType::kBf16, static_cast<size_t>(kColumns * k), rng));
    const DeviceValues<uint16_t> all(a);
    const TestStream stream;
    std::vector<float> want;
    for (const int m : {kRows, 1, 2, 16, 17, 63}) {
      const int first = static_cast<int>(rng() % static_cast<uint64_t>(kRows - m + 1));
      const DeviceValues<float> out(static_cast<size_t>(m * kColumns));
      GemmParams params;
      params.a = all.data() + first * k;
      params.a_stride = k;
      params.b = b.data();
      params.c = out.data();
      params.float_out = true;
      params.m = m;
      params.n = kColumns;
      params.k = k;
      ASSERT_EQ(LaunchGemm(params, stream), cudaSuccess);
      EXPECT_CUDA_OK(stream.Synchronize());
      const std::vector<float> got = out.Get();
      if (want.empty()) want = got;
      EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin() + first * kColumns))
          << "k " << k << ": " << m << " rows from " << first << " on";
    }
  }
}

TEST_F(GemmTest, NothingToDoLaunchesNothing) {
  GemmParams params;
  params.n = 5;
  params.k = 8;
  EXPECT_EQ(LaunchGemm(params, nullptr), cudaSuccess);
  std::swap(params.m, params.n);
  EXPECT_EQ(LaunchGemm(params, nullptr), cudaSuccess);
}

TEST_F(GemmTest, MemoryAccessesAreCoalescedAndFreeOfConflicts) {
  cuda_emu::CountAccesses(true);
  for (const int m : {16, 64}) {
    Case c{m, 64, 128};
    c.float_out = true;
    std::mt19937_64 rng(1);
    const DeviceValues<uint16_t> a(RandomHalves(c.half, static_cast<size_t>(m) * 128, rng));
    const DeviceValues<uint16_t> b(RandomHalves(c.half, 64 * 128, rng));
    const DeviceValues<float> out(static_cast<size_t>(m) * 64);
    GemmParams params{a.data(), 128, b.data(), nullptr, out.data(), true, m, 64, 128};
    const TestStream stream;
    ASSERT_EQ(LaunchGemm(params, stream), cudaSuccess);
    EXPECT_CUDA_OK(stream.Synchronize());
  }
  ExpectNoWaste("global read", 1.0);
  ExpectNoWaste("global write", 1.0);
  ExpectNoWaste("ldmatrix", 1.0);
  ExpectNoWaste("shared write", 1.0);
  cuda_emu::CountAccesses(false);
}

}  // namespace
}  // namespace sluice::cuda
