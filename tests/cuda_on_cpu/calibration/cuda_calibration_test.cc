#include "service/calibration/cuda_calibration.h"

#include "gmock/gmock.h"
#include "service/profiles/catalogue.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr double kKernelUs = 7;

class CudaCalibrationTest : public EmulatedTest {
 protected:
  void SetUp() override {
    cuda_emu::Config config;
    config.host_to_device = {10e9, 4, 5, 1.5};
    config.device_to_host = {8e9, 4, 5, 1.5};
    config.device_to_device = {500e9, 1, 0, 0};
    cuda_emu::Reset(config);
    cuda_emu::SetKernelCost([](const cuda_emu::KernelLaunch&) { return kKernelUs; });
    control_.time = absl::ZeroDuration();  // five runs of each
  }
  void TearDown() override {
    cuda_emu::SetKernelCost(nullptr);
    EmulatedTest::TearDown();
  }

  CudaCalibrationOptions Options() const {
    CudaCalibrationOptions options;
    options.shape = {128, 128, 4, 2, 64};
    options.large = MiB(2);
    options.rows = 64;
    options.context = 40;
    options.base = *Catalogue::Load()->FindHardware("h100-pcie5");
    options.machine = "a machine";
    options.date = "2026-01-02";
    return options;
  }

  ProbeControl control_;
};

TEST_F(CudaCalibrationTest, MeasuresWhatTheModelledDeviceTakes) {
  const auto probe = CudaProbe::Open("", MiB(2), control_);
  ASSERT_THAT(probe.status(), IsOk());
  std::vector<std::string> parts;
  const auto result = CalibrateCuda(
      **probe, Options(), [&](int64_t, int64_t, const std::string& p) { parts.push_back(p); });
  ASSERT_THAT(result.status(), IsOk());
  const HardwareProfile& profile = result->profile;
  // 1 MiB at 10 GB/s is 105 us; each copy has 4 us beside.
  EXPECT_NEAR(profile.to_device.sustained.value(), 10e9, 0.06 * 10e9);
  EXPECT_NEAR(profile.to_host.sustained.value(), 8e9, 0.06 * 8e9);
  EXPECT_NEAR(profile.duplex_sustained.value(), 16e9, 0.2 * 16e9);
  EXPECT_NEAR(profile.copy_overhead.value(), 1.5e-6, 0.5e-6);
  EXPECT_NEAR(profile.copy_latency.value(), 4.8e-6, 1.5e-6);
  EXPECT_NEAR(profile.layer_floor.value(), 10 * kKernelUs * 1e-6, 20e-6);
  EXPECT_EQ(profile.memory.value(), 1 << 30);
  EXPECT_EQ(profile.name, "calibrated-cuda");
  EXPECT_THAT(profile.description, HasSubstr("Emulated GPU"));
  EXPECT_THAT(profile.sources.at("link"), HasSubstr("sluice calibrate, 2026-01-02: load of"));
  EXPECT_THAT(profile.sources.at("power"), HasSubstr("not measured: built-in profile h100-pcie5"));
  EXPECT_EQ(parts.back(), "done");
  EXPECT_EQ(parts.size(), 8U);
}

// A kernel takes 7 us whatever it moves; a batch of 64 pieces takes 101 us and their bytes.
TEST_F(CudaCalibrationTest, FindsWhereTheCopyEngineWins) {
  cuda_emu::SetKernelCost([](const cuda_emu::KernelLaunch& launch) {
    return std::string(launch.name) == "kv_copy" ? static_cast<double>(launch.blocks) * 2
                                                 : kKernelUs;
  });
  const auto probe = CudaProbe::Open("", MiB(2), control_);
  ASSERT_THAT(probe.status(), IsOk());
  const auto result =
      CalibrateCuda(**probe, Options(), [](int64_t, int64_t, const std::string&) {});
  ASSERT_THAT(result.status(), IsOk());
  // 8 KiB: one block of the kernel, 2 us, against 2.3 us of the engine. 32 KiB: 8 against 4.8 us.
  // Both times grow with the size to some power between the two: equal after about a fifth of the
  // way, in logarithms.
  const HardwareProfile& profile = result->profile;
  ASSERT_TRUE(profile.kernel_below.has_value());
  EXPECT_GT(profile.kernel_below->value(), 9 << 10);
  EXPECT_LT(profile.kernel_below->value(), 16 << 10);
  EXPECT_THAT(profile.Validate(), IsOk());
}

TEST_F(CudaCalibrationTest, AKernelThatIsNeverFasterIsSaidToBe) {
  cuda_emu::SetKernelCost([](const cuda_emu::KernelLaunch& launch) {
    return std::string(launch.name) == "kv_copy" ? 1e4 : kKernelUs;
  });
  const auto probe = CudaProbe::Open("", MiB(2), control_);
  ASSERT_THAT(probe.status(), IsOk());
  const auto result =
      CalibrateCuda(**probe, Options(), [](int64_t, int64_t, const std::string&) {});
  ASSERT_THAT(result.status(), IsOk());
  EXPECT_EQ(result->profile.kernel_below, Bytes(0));
}

TEST_F(CudaCalibrationTest, StopsWhenAsked) {
  control_.cancelled = [] { return true; };
  const auto probe = CudaProbe::Open("", MiB(2), control_);
  ASSERT_THAT(probe.status(), IsOk());
  EXPECT_THAT(
      CalibrateCuda(**probe, Options(), [](int64_t, int64_t, const std::string&) {}).status(),
      StatusIs(absl::StatusCode::kCancelled, HasSubstr("interrupted")));
}

TEST_F(CudaCalibrationTest, NoDeviceIsSaidInOneLine) {
  cuda_emu::Config config;
  config.devices = 0;
  cuda_emu::Reset(config);
  EXPECT_THAT(CudaProbe::Open("", MiB(2), control_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("nvidia-smi")));
}

}  // namespace
}  // namespace sluice
