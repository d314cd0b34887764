// The two kernels around a product in 8 bits: every access is coalesced, at widths of several loops
// and where the last one is partial.
#include <cstdint>
#include <vector>

#include "backend/cuda/kernels/quantize_rows.h"
#include "backend/cuda/kernels/scale_product.h"
#include "tests/cuda_on_cpu/kernels/kernel_test.h"

namespace sluice::cuda {
namespace {

class QuantizeAccessTest : public KernelTest {};

TEST_F(QuantizeAccessTest, RowsAreReadAndCodesWrittenInWholeSectors) {
  for (const int k : {1024, 2048 + 256, 8192}) {
    SCOPED_TRACE(::testing::Message() << "k " << k);
    std::mt19937_64 rng(1);
    constexpr int kRows = 3;
    const DeviceValues<uint16_t> x(
        RandomHalves(HalfType::kBf16, static_cast<size_t>(kRows * k), rng));
    const DeviceValues<uint8_t> codes(static_cast<size_t>(kRows * k));
    const DeviceValues<float> scales(kRows);
    const TestStream stream;
    cuda_emu::CountAccesses(true);
    QuantizeRowsParams params;
    params.x = x.data();
    params.stride = k;
    params.codes = codes.data();
    params.scales = scales.data();
    params.rows = kRows;
    params.k = k;
    ASSERT_EQ(LaunchQuantizeRows(params, stream), cudaSuccess);
    EXPECT_CUDA_OK(stream.Synchronize());
    ExpectNoWaste("global read", 1.0);
    ExpectNoWaste("global write", 1.0);
    cuda_emu::CountAccesses(false);
  }
}

TEST_F(QuantizeAccessTest, ProductsAreScaledInWholeSectors) {
  for (const bool float_out : {false, true}) {
    SCOPED_TRACE(float_out ? "float" : "half");
    constexpr int kM = 3;
    constexpr int kN = 1024 + 64;
    const DeviceValues<float> raw(std::vector<float>(kM * kN, 1.0F));
    const DeviceValues<float> rows(std::vector<float>(kM, 2.0F));
    const DeviceValues<float> columns(std::vector<float>(kN, 3.0F));
    const DeviceValues<uint16_t> bias(std::vector<uint16_t>(kN, ToHalf(HalfType::kBf16, 0.5)));
    const DeviceValues<float> c(kM * kN);
    const TestStream stream;
    cuda_emu::CountAccesses(true);
    ScaleProductParams params;
    params.raw = raw.data();
    params.rows = rows.data();
    params.columns = columns.data();
    params.bias = bias.data();
    params.c = c.data();
    params.float_out = float_out;
    params.m = kM;
    params.n = kN;
    ASSERT_EQ(LaunchScaleProduct(params, stream), cudaSuccess);
    EXPECT_CUDA_OK(stream.Synchronize());
    ExpectNoWaste("global read", 1.0);
    ExpectNoWaste("global write", 1.0);
    cuda_emu::CountAccesses(false);
  }
}

}  // namespace
}  // namespace sluice::cuda
