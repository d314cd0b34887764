// What CudaProbe measures ends when the last of it has: on the modelled clock and on the wall's.
#include "backend/cuda/device_probe.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice {
namespace {

class ProbeTest : public EmulatedTest {
 protected:
  static std::unique_ptr<CudaProbe> Open() {
    ProbeControl control;
    control.time = absl::ZeroDuration();  // the least number of runs
    auto probe = CudaProbe::Open("", MiB(2), control);
    EXPECT_TRUE(probe.ok()) << probe.status();
    return *std::move(probe);
  }
};

// Whichever direction is the slower one, and wherever it began.
TEST_F(ProbeTest, DuplexTakesAsLongAsTheSlowerDirection) {
  for (const auto& [load, store] : {std::pair(20e9, 5e9), std::pair(5e9, 20e9)}) {
    SCOPED_TRACE(::testing::Message() << "load " << load << ", store " << store);
    cuda_emu::Config config;
    config.host_to_device.bytes_per_second = load;
    config.device_to_host.bytes_per_second = store;
    cuda_emu::Reset(config);
    const auto probe = Open();
    const auto times = probe->Duplex(MiB(1));
    ASSERT_TRUE(times.ok()) << times.status();
    const double slower = static_cast<double>(1 << 20) / 5e9;
    EXPECT_NEAR(absl::ToDoubleSeconds(times->median), slower, 0.1 * slower);
  }
}

TEST_F(ProbeTest, AStepIsOverWhenItsLastCopyIs) {
  cuda_emu::Config config;
  config.streams = cuda_emu::Streams::kThreads;  // takes the wall's time
  config.device_to_host.per_copy_us = 3000;
  cuda_emu::Reset(config);
  const auto probe = Open();
  const auto times = probe->Step();
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_GE(times->median, absl::Milliseconds(3));
}

}  // namespace
}  // namespace sluice
