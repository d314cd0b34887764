// Products with weights of 8 bits: their parts, and both ways to do them, in double precision.
#include <cstring>

#include "absl/status/status.h"
#include "backend/cuda/kernels/fp8_product.h"
#include "backend/cuda/kernels/gemm.h"
#include "backend/cuda/kernels/quantize_rows.h"
#include "backend/cuda/kernels/scale_product.h"
#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {
namespace {

float DecodeE4m3(unsigned char code) {
  const int exponent = code >> 3 & 15;
  const auto mantissa = static_cast<float>(code & 7);
  const float size =
      exponent == 0 ? mantissa * 0x1p-9F : std::ldexp(1.0F + mantissa / 8.0F, exponent - 7);
  return (code & 0x80) != 0 ? -size : size;
}

struct Quantized {
  std::vector<unsigned char> codes;
  std::vector<float> scales;
};

Quantized Quantize(HalfType half, const std::vector<uint16_t>& x, int rows, int k, int64_t stride) {
  const DeviceValues<uint16_t> d_x(x);
  const DeviceValues<unsigned char> codes(static_cast<size_t>(rows * k));
  const DeviceValues<float> scales(static_cast<size_t>(rows));
  const TestStream stream;
  EXPECT_EQ(
      LaunchQuantizeRows({d_x.data(), stride, codes.data(), scales.data(), rows, k, half}, stream),
      cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  return {codes.Get(), scales.Get()};
}

class Fp8GemmTest : public KernelTest {};

TEST_F(Fp8GemmTest, RowsBecomeTheNearestCodesOfTheirOwnScale) {
  uint64_t seed = 1;
  for (const HalfType half : {HalfType::kBf16, HalfType::kF16}) {
    for (const int rows : {1, 3, 17}) {
      for (const int k : {1, 7, 8, 64, 509, 2056}) {
        for (const int gap : {0, 3}) {
          SCOPED_TRACE(::testing::Message() << rows << " x " << k << " seed " << seed);
          Use(ScheduleOf(seed));
          std::mt19937_64 rng(seed++);
          const int64_t stride = k + gap;
          std::vector<uint16_t> x = RandomHalves(half, static_cast<size_t>(rows * stride), rng);
          for (size_t i = 0; i < x.size(); ++i) {
            const auto column = static_cast<int64_t>(i) % stride;
            const auto row = static_cast<int64_t>(i) / stride;
            if (column >= k) x[i] = 0x7fff;  // NaN: not of the row
            if (row == 2) x[i] = ToHalf(half, column == 0 ? 0.0 : -0.0);
          }
          const Quantized got = Quantize(half, x, rows, k, stride);
          for (int row = 0; row < rows; ++row) {
            float largest = 0;
            const auto at = [&](int i) {
              return static_cast<float>(FromHalf(half, x[static_cast<size_t>(row * stride + i)]));
            };
            for (int i = 0; i < k; ++i) largest = std::max(largest, std::abs(at(i)));
            const float scale = got.scales[static_cast<size_t>(row)];
            ASSERT_EQ(scale, largest == 0 ? 1.0F : largest / 448.0F);
            for (int i = 0; i < k; ++i) {
              const float back = DecodeE4m3(got.codes[static_cast<size_t>(row * k + i)]);
              const float want = at(i) / scale;
              // Half a step: 2^-4 of the number, and of the smallest step where it is subnormal.
              ASSERT_LE(std::abs(back - want), std::max(std::abs(want) * 0x1.001p-4F, 0x1.001p-10F))
                  << "row " << row << " column " << i;
            }
          }
        }
      }
    }
  }
}

TEST_F(Fp8GemmTest, ARowThatIsNotFiniteHasNoScaleAndItsNeighboursKeepTheirs) {
  for (const double broken : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    std::vector<uint16_t> x(3 * 24, ToHalf(HalfType::kBf16, 2.0));
    x[24 + 5] = ToHalf(HalfType::kBf16, broken);
    const Quantized got = Quantize(HalfType::kBf16, x, 3, 24, 24);
    EXPECT_EQ(got.scales[0], 2.0F / 448.0F);
    EXPECT_TRUE(std::isnan(got.scales[1]));
    EXPECT_EQ(got.scales[2], 2.0F / 448.0F);
  }
}

TEST_F(Fp8GemmTest, NumbersWithoutAnInverseAreZero) {
  const Quantized got = Quantize(HalfType::kBf16, std::vector<uint16_t>(16, 0x0001), 1, 16, 16);
  EXPECT_EQ(got.scales[0], 1.0F);
  EXPECT_EQ(got.codes, std::vector<unsigned char>(16, 0));
}

struct Case {
  int m, n, k;
  int gap = 0;
  bool bias = false;
  bool float_out = false;
  HalfType half = HalfType::kBf16;
};

// Random codes (no NaN) and scales, activations, bias.
struct Inputs {
  std::vector<uint16_t> a, bias;
  std::vector<unsigned char> b;
  std::vector<float> scales;
};

Inputs MakeInputs(const Case& c, std::mt19937_64& rng) {
  Inputs in;
  const auto m = static_cast<size_t>(c.m), n = static_cast<size_t>(c.n),
             stride = static_cast<size_t>(c.k + c.gap);
  in.a = RandomHalves(c.half, m * stride, rng);
  for (size_t i = 0; i < in.a.size(); ++i) {
    if (i % stride >= static_cast<size_t>(c.k)) in.a[i] = 0x7fff;
  }
  in.bias = RandomHalves(c.half, c.bias ? n : 0, rng);
  in.b.resize(n * static_cast<size_t>(c.k));
  for (unsigned char& code : in.b) {
    do code = static_cast<unsigned char>(rng());
    while ((code & 0x7f) == 0x7f);
  }
  in.scales.resize(n);
  for (float& scale : in.scales) scale = 1e-3F * static_cast<float>(1 + rng() % 100);
  return in;
}

// Both sides as they are multiplied: `a` in double, row by row of k.
std::vector<double> Reference(const Case& c, const Inputs& in, const std::vector<double>& a) {
  const auto m = static_cast<size_t>(c.m), n = static_cast<size_t>(c.n),
             k = static_cast<size_t>(c.k);
  std::vector<double> want(m * n);
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t l = 0; l < k; ++l) {
        sum += a[i * k + l] * static_cast<double>(DecodeE4m3(in.b[j * k + l]));
      }
      want[i * n + j] =
          sum * static_cast<double>(in.scales[j]) + (c.bias ? FromHalf(c.half, in.bias[j]) : 0);
    }
  }
  return want;
}

// Codes are up to 448: sums are larger than their terms' scales suggest.
void ExpectProduct(const Case& c, const std::vector<double>& got, const std::vector<double>& want) {
  double largest = 1;
  for (const double w : want) largest = std::max(largest, std::abs(w));
  const double epsilon = c.float_out ? 1e-5 : HalfEpsilon(c.half);
  ExpectClose(got, want, {epsilon * largest, c.float_out ? 2e-2 : 5e-2, epsilon});
}

struct OnDevice {
  explicit OnDevice(const Case& c, const Inputs& in)
      : a(in.a),
        bias(in.bias),
        b(in.b),
        scales(in.scales),
        halves(c.float_out ? 0 : static_cast<size_t>(c.m * c.n)),
        floats(c.float_out ? static_cast<size_t>(c.m * c.n) : 0) {
    params.a = a.data();
    params.a_stride = c.k + c.gap;
    params.b = b.data();
    params.b_scales = scales.data();
    params.bias = bias.data();
    params.c = c.float_out ? static_cast<void*>(floats.data()) : halves.data();
    params.float_out = c.float_out;
    params.m = c.m;
    params.n = c.n;
    params.k = c.k;
    params.half = c.half;
  }
  std::vector<double> Result() const {
    return params.float_out ? ToDoubles(floats.Get()) : FromHalves(params.half, halves.Get());
  }

  DeviceValues<uint16_t> a, bias;
  DeviceValues<unsigned char> b;
  DeviceValues<float> scales;
  DeviceValues<uint16_t> halves;
  DeviceValues<float> floats;
  GemmParams params;
};

void CheckWidened(const Case& c, uint64_t seed) {
  SCOPED_TRACE(::testing::Message() << c.m << " x " << c.n << " x " << c.k << " seed " << seed);
  Use(ScheduleOf(seed));
  std::mt19937_64 rng(seed);
  const Inputs in = MakeInputs(c, rng);
  const OnDevice device(c, in);
  const TestStream stream;
  ASSERT_EQ(LaunchGemm(device.params, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  std::vector<double> a;
  for (int i = 0; i < c.m; ++i) {
    for (int l = 0; l < c.k; ++l) {
      a.push_back(FromHalf(c.half, in.a[static_cast<size_t>(i * (c.k + c.gap) + l)]));
    }
  }
  ExpectProduct(c, device.Result(), Reference(c, in, a));
}

TEST_F(Fp8GemmTest, WidenedWeightsAgreeWithDoublePrecision) {
  uint64_t seed = 1;
  for (const int m : {1, 15, 16, 17, 64, 65}) {
    for (const int n : {1, 7, 64, 65, 130}) {
      for (const int k : {16, 64, 80, 144}) {
        Case c{m, n, k};
        c.half = seed % 2 == 0 ? HalfType::kBf16 : HalfType::kF16;
        c.bias = seed % 3 == 0;
        c.float_out = seed % 5 == 0;
        CheckWidened(c, seed++);
      }
    }
  }
}

TEST_F(Fp8GemmTest, OddDepthsAndStridesTakeTheSlowWay) {
  uint64_t seed = 500;
  for (const int k : {0, 1, 3, 8, 63, 65, 131}) {
    CheckWidened({5, 9, k, 0, true}, seed++);
    CheckWidened({33, 66, k, 5, false}, seed++);
  }
  CheckWidened({20, 12, 64, 4}, seed++);
  CheckWidened({20, 12, 64, 8}, seed++);
}

// What a token is multiplied to does not depend on who else is in the step.
TEST_F(Fp8GemmTest, ARowDoesNotDependOnHowManyThereAre) {
  std::mt19937_64 rng(3);
  Case c{70, 66, 80};
  c.float_out = true;
  const Inputs in = MakeInputs(c, rng);
  const TestStream stream;
  std::vector<double> all;
  for (const int m : {70, 1, 16, 17}) {
    OnDevice device(c, in);
    device.params.m = m;
    ASSERT_EQ(LaunchGemm(device.params, stream), cudaSuccess);
    EXPECT_CUDA_OK(stream.Synchronize());
    std::vector<double> rows = device.Result();
    rows.resize(static_cast<size_t>(m * c.n));
    if (all.empty()) all = rows;
    EXPECT_TRUE(std::equal(rows.begin(), rows.end(), all.begin())) << m;
  }
}

TEST_F(Fp8GemmTest, MemoryAccessesAreCoalescedAndFreeOfConflicts) {
  for (const int m : {16, 64}) {
    Case c{m, 64, 128};
    c.float_out = true;
    std::mt19937_64 rng(1);
    const Inputs in = MakeInputs(c, rng);
    const OnDevice device(c, in);
    const TestStream stream;
    cuda_emu::CountAccesses(true);
    ASSERT_EQ(LaunchGemm(device.params, stream), cudaSuccess);
    EXPECT_CUDA_OK(stream.Synchronize());
    ExpectNoWaste("global read", 1.0);
    ExpectNoWaste("global write", 1.0);
    ExpectNoWaste("ldmatrix", 1.0);
    ExpectNoWaste("shared write", 1.0);
    cuda_emu::CountAccesses(false);
  }
}

// The way of cuBLASLt, with the host in its place: it knows codes and no scales.
TEST_F(Fp8GemmTest, ProductsOfCodesAreScaledByRowAndColumn) {
  uint64_t seed = 1;
  for (const int m : {1, 5, 33}) {
    for (const int n : {16, 528}) {
      for (const int k : {16, 272}) {
        Case c{m, n, k};
        c.half = seed % 2 == 0 ? HalfType::kBf16 : HalfType::kF16;
        c.bias = seed % 3 == 0;
        c.float_out = seed % 4 == 0;
        SCOPED_TRACE(::testing::Message() << m << " x " << n << " x " << k << " seed " << seed);
        Use(ScheduleOf(seed));
        std::mt19937_64 rng(seed++);
        const Inputs in = MakeInputs(c, rng);
        const OnDevice device(c, in);
        const TestStream stream;
        Fp8Product product;
        ASSERT_EQ(product.Reserve(40, 272, 528), absl::OkStatus());
        ASSERT_TRUE(product.Takes(device.params));
        std::vector<double> sent;
        const absl::Status status = product.Run(
            device.params,
            [&] {
              std::vector<unsigned char> codes(static_cast<size_t>(m * k));
              EXPECT_CUDA_OK(stream.Synchronize());
              EXPECT_CUDA_OK(
                  cudaMemcpy(codes.data(), product.codes(), codes.size(), cudaMemcpyDeviceToHost));
              for (const unsigned char code : codes) sent.push_back(DecodeE4m3(code));
              Inputs unscaled = in;
              std::fill(unscaled.scales.begin(), unscaled.scales.end(), 1.0F);
              Case plain = c;
              plain.bias = false;
              const std::vector<double> sums = Reference(plain, unscaled, sent);
              const std::vector<float> raw(sums.begin(), sums.end());
              EXPECT_CUDA_OK(cudaMemcpy(product.raw(), raw.data(), raw.size() * sizeof(float),
                                        cudaMemcpyHostToDevice));
              return absl::OkStatus();
            },
            stream);
        ASSERT_EQ(status, absl::OkStatus());
        EXPECT_CUDA_OK(stream.Synchronize());
        // What was sent stands for `a` in units of the rows' scales.
        const Quantized rows = Quantize(c.half, in.a, m, k, k);
        for (size_t i = 0; i < sent.size(); ++i) {
          sent[i] *= static_cast<double>(rows.scales[i / static_cast<size_t>(k)]);
        }
        ExpectProduct(c, device.Result(), Reference(c, in, sent));
      }
    }
  }
}

TEST_F(Fp8GemmTest, OnlyWhatFitsIsTaken) {
  Fp8Product product;
  GemmParams params;
  float scale = 1;
  params.m = 8;
  params.n = params.k = 32;
  params.b_scales = &scale;
  EXPECT_FALSE(product.Takes(params));  // nothing was reserved
  ASSERT_EQ(product.Reserve(8, 32, 32), absl::OkStatus());
  EXPECT_TRUE(product.Takes(params));
  const auto refused = [&](auto change) {
    GemmParams other = params;
    change(other);
    return !product.Takes(other);
  };
  EXPECT_TRUE(refused([](GemmParams& p) { p.m = 9; }));
  EXPECT_TRUE(refused([](GemmParams& p) { p.n = 48; }));
  EXPECT_TRUE(refused([](GemmParams& p) { p.k = 24; }));
  EXPECT_TRUE(refused([](GemmParams& p) { p.b_scales = nullptr; }));
  ScaleProductParams odd;
  odd.m = 1;
  odd.n = 3;
  EXPECT_EQ(LaunchScaleProduct(odd, nullptr), cudaErrorInvalidValue);
  odd.n = 0;
  EXPECT_EQ(LaunchScaleProduct(odd, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchQuantizeRows({}, nullptr), cudaSuccess);
}

TEST_F(Fp8GemmTest, MissingMemoryIsSaidWithTheRemedy) {
  cuda_emu::Config config = cuda_emu::CurrentConfig();
  config.device_bytes = 1 << 20;
  cuda_emu::Reset(config);
  Fp8Product product;
  const absl::Status status = product.Reserve(1 << 10, 1 << 10, 1 << 10);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("--max-num-batched-tokens"), std::string::npos);
}

}  // namespace
}  // namespace sluice::cuda
