// Kernels that work on rows of activations: embedding, RMSNorm, gated activation.
#include "backend/cuda/kernels/embedding.h"
#include "backend/cuda/kernels/gated_activation.h"
#include "backend/cuda/kernels/rms_norm.h"
#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {
namespace {

constexpr HalfType kHalves[] = {HalfType::kBf16, HalfType::kF16};

class RowKernelsTest : public KernelTest {};

TEST_F(RowKernelsTest, EmbeddingCopiesRowsExactly) {
  for (const HalfType half : kHalves) {
    for (const int hidden : {2, 34, 512, 1026}) {
      SCOPED_TRACE(hidden);
      std::mt19937_64 rng(static_cast<uint64_t>(hidden));
      const int vocab = 13;
      const std::vector<uint16_t> table =
          RandomHalves(half, static_cast<size_t>(vocab * hidden), rng);
      const std::vector<int32_t> tokens = {12, 0, 5, 5, 7};
      const DeviceValues<uint16_t> d_table(table);
      const DeviceValues<int32_t> d_tokens(tokens);
      const DeviceValues<float> residual(tokens.size() * static_cast<size_t>(hidden));
      const TestStream stream;
      ASSERT_EQ(LaunchEmbedding({d_table.data(), d_tokens.data(), residual.data(),
                                 static_cast<int32_t>(tokens.size()), hidden, half},
                                stream),
                cudaSuccess);
      EXPECT_CUDA_OK(stream.Synchronize());
      std::vector<double> want;
      for (const int32_t token : tokens) {
        for (int i = 0; i < hidden; ++i) {
          want.push_back(FromHalf(half, table[static_cast<size_t>(token * hidden + i)]));
        }
      }
      EXPECT_EQ(ToDoubles(residual.Get()), want);
    }
  }
}

// What could not be drawn is looked up as token 0.
TEST_F(RowKernelsTest, EmbeddingTakesTokensThatWereDrawnOnTheDevice) {
  const int hidden = 6;
  std::mt19937_64 rng(1);
  const std::vector<uint16_t> table = RandomHalves(HalfType::kBf16, 5 * hidden, rng);
  const DeviceValues<uint16_t> d_table(table);
  const DeviceValues<int32_t> d_drawn(std::vector<int32_t>{4, -1, 2});
  const DeviceValues<int32_t> d_tokens(std::vector<int32_t>{3, -3, -2, -1, 1});
  const DeviceValues<float> residual(5 * hidden);
  const TestStream stream;
  ASSERT_EQ(LaunchEmbedding({d_table.data(), d_tokens.data(), residual.data(), 5, hidden,
                             HalfType::kBf16, d_drawn.data()},
                            stream),
            cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  std::vector<double> want;
  for (const int token : {3, 2, 0, 4, 1}) {
    for (int i = 0; i < hidden; ++i) {
      want.push_back(FromHalf(HalfType::kBf16, table[static_cast<size_t>(token * hidden + i)]));
    }
  }
  EXPECT_EQ(ToDoubles(residual.Get()), want);
}

struct NormResult {
  std::vector<double> out, residual;
};

NormResult ReferenceNorm(std::vector<double> residual, std::span<const double> delta,
                         std::span<const double> weight, std::span<const int32_t> rows, int count,
                         double eps) {
  const size_t hidden = weight.size();
  NormResult result;
  for (int i = 0; i < count; ++i) {
    const auto row = static_cast<size_t>(rows.empty() ? i : rows[static_cast<size_t>(i)]);
    double sum = 0;
    for (size_t h = 0; h < hidden; ++h) {
      double& x = residual[row * hidden + h];
      if (!delta.empty()) x += delta[static_cast<size_t>(i) * hidden + h];
      sum += x * x;
    }
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(hidden) + eps);
    for (size_t h = 0; h < hidden; ++h) {
      result.out.push_back(residual[row * hidden + h] * scale * weight[h]);
    }
  }
  result.residual = std::move(residual);
  return result;
}

void CheckNorm(HalfType half, int hidden, bool with_delta, std::vector<int32_t> rows,
               uint64_t seed) {
  SCOPED_TRACE(::testing::Message() << "hidden " << hidden << " delta " << with_delta << " rows "
                                    << rows.size() << " seed " << seed);
  Use(ScheduleOf(seed));
  std::mt19937_64 rng(seed);
  const int total = 5;
  const int count = rows.empty() ? total : static_cast<int>(rows.size());
  std::normal_distribution<float> normal;
  std::vector<float> residual(static_cast<size_t>(total * hidden));
  for (float& x : residual) x = normal(rng);
  const auto delta = RandomHalves(half, with_delta ? static_cast<size_t>(count * hidden) : 0, rng);
  const auto weight = RandomHalves(half, static_cast<size_t>(hidden), rng);
  const DeviceValues<float> d_residual(residual);
  const DeviceValues<uint16_t> d_delta(delta), d_weight(weight);
  const DeviceValues<uint16_t> out(static_cast<size_t>(count * hidden));
  const DeviceValues<int32_t> d_rows(rows);
  const TestStream stream;
  RmsNormParams params;
  params.residual = d_residual.data();
  params.delta = d_delta.data();
  params.weight = d_weight.data();
  params.out = out.data();
  params.rows = d_rows.data();
  params.count = count;
  params.hidden = hidden;
  params.eps = 1e-5F;
  params.half = half;
  ASSERT_EQ(LaunchRmsNorm(params, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  const NormResult want = ReferenceNorm(ToDoubles(residual), FromHalves(half, delta),
                                        FromHalves(half, weight), rows, count, 1e-5);
  const double epsilon = HalfEpsilon(half);
  ExpectClose(FromHalves(half, out.Get()), want.out, {16 * epsilon, 1.01 * epsilon, epsilon});
  ExpectClose(ToDoubles(d_residual.Get()), want.residual, {1e-6, 1e-6, 1e-7});
}

TEST_F(RowKernelsTest, RmsNormAgreesWithDoublePrecision) {
  uint64_t seed = 1;
  for (const HalfType half : kHalves) {
    for (const int hidden : {2, 62, 64, 512, 514, 1030}) {
      CheckNorm(half, hidden, false, {}, seed++);
      CheckNorm(half, hidden, true, {}, seed++);
      CheckNorm(half, hidden, true, {4, 1}, seed++);
    }
  }
}

TEST_F(RowKernelsTest, RmsNormWithoutOutputAddsOnly) {
  const DeviceValues<float> residual(std::vector<float>{1, 2, 3, 4});
  const DeviceValues<uint16_t> delta(std::vector<uint16_t>{0x3f80, 0x3f80, 0xbf80, 0});
  const TestStream stream;
  RmsNormParams params;
  params.residual = residual.data();
  params.delta = delta.data();
  params.count = 2;
  params.hidden = 2;
  ASSERT_EQ(LaunchRmsNorm(params, stream), cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  EXPECT_EQ(residual.Get(), (std::vector<float>{2, 3, 2, 4}));
}

double Activate(double x, Activation activation) {
  if (activation == Activation::kSilu) return x / (1.0 + std::exp(-x));
  return x / 2 *
         (1.0 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

TEST_F(RowKernelsTest, GatedActivationAgreesWithDoublePrecision) {
  uint64_t seed = 100;
  for (const HalfType half : kHalves) {
    for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
      for (const int width : {2, 46, 512, 1024, 1026}) {
        for (const bool with_bias : {false, true}) {
          SCOPED_TRACE(::testing::Message() << "width " << width << " seed " << seed);
          Use(ScheduleOf(seed));
          std::mt19937_64 rng(seed++);
          const int rows = 3;
          const auto n = static_cast<size_t>(width);
          const auto gate_up = RandomHalves(half, 2 * n * rows, rng, 4.0);
          const auto bias = RandomHalves(half, with_bias ? 2 * n : 0, rng);
          const DeviceValues<uint16_t> d_gate_up(gate_up), d_bias(bias), out(n * rows);
          const TestStream stream;
          ASSERT_EQ(LaunchGatedActivation({d_gate_up.data(), d_bias.data(), out.data(), rows, width,
                                           activation, half},
                                          stream),
                    cudaSuccess);
          EXPECT_CUDA_OK(stream.Synchronize());
          std::vector<double> want;
          for (size_t i = 0; i < n * rows; ++i) {
            const size_t at = i / n * 2 * n + i % n;
            double gate = FromHalf(half, gate_up[at]);
            double up = FromHalf(half, gate_up[at + n]);
            if (with_bias) {
              gate += FromHalf(half, bias[i % n]);
              up += FromHalf(half, bias[n + i % n]);
            }
            want.push_back(Activate(gate, activation) * up);
          }
          const double epsilon = HalfEpsilon(half);
          ExpectClose(FromHalves(half, out.Get()), want, {64 * epsilon, 1.02 * epsilon, epsilon});
        }
      }
    }
  }
}

TEST_F(RowKernelsTest, NothingToDoLaunchesNothing) {
  const uint64_t launches = cuda_emu::CurrentCounts().launches;
  EXPECT_EQ(LaunchEmbedding({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchRmsNorm({}, nullptr), cudaSuccess);
  EXPECT_EQ(LaunchGatedActivation({}, nullptr), cudaSuccess);
  EXPECT_EQ(cuda_emu::CurrentCounts().launches, launches);
}

TEST_F(RowKernelsTest, MemoryAccessesAreCoalesced) {
  const int hidden = 1024;
  std::mt19937_64 rng(1);
  const DeviceValues<float> residual(std::vector<float>(2 * hidden, 1.0F));
  const DeviceValues<uint16_t> delta(RandomHalves(HalfType::kBf16, 4 * hidden, rng));
  const DeviceValues<uint16_t> out(2 * hidden);
  const DeviceValues<int32_t> tokens(std::vector<int32_t>{1, 0});
  const TestStream stream;
  cuda_emu::CountAccesses(true);
  RmsNormParams norm;
  norm.residual = residual.data();
  norm.delta = delta.data();
  norm.weight = delta.data();
  norm.out = out.data();
  norm.count = 2;
  norm.hidden = hidden;
  EXPECT_EQ(LaunchRmsNorm(norm, stream), cudaSuccess);
  EXPECT_EQ(LaunchGatedActivation({delta.data(), nullptr, out.data(), 2, hidden}, stream),
            cudaSuccess);
  EXPECT_EQ(LaunchEmbedding({delta.data(), tokens.data(), residual.data(), 2, hidden}, stream),
            cudaSuccess);
  EXPECT_CUDA_OK(stream.Synchronize());
  ExpectNoWaste("global read", 1.0);
  ExpectNoWaste("global write", 1.0);
  cuda_emu::CountAccesses(false);
}

}  // namespace
}  // namespace sluice::cuda
