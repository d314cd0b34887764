// On the modelled clock: what a step sees of its loads, and what urgent copies see of a burst.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/cuda_on_cpu/backend/link_world.h"
#include "tests/cuda_on_cpu/emulated_test.h"

namespace sluice::cuda {
namespace {

constexpr auto kLoad = LinkDirection::kHostToDevice;
constexpr auto kStore = LinkDirection::kDeviceToHost;
constexpr double kRate = 1e9;  // bytes per second

absl::Time ModelledNow() {
  return absl::UnixEpoch() + absl::Nanoseconds(std::llround(cuda_emu::HostMicroseconds() * 1e3));
}

class LinkTimingTest : public EmulatedTest {
 protected:
  void Make(int64_t layers, int64_t blocks, double layer_compute_us) {
    cuda_emu::Config config;
    config.stream_order = cuda_emu::StreamOrder::kTimed;
    config.host_to_device = {kRate, 2, 2, 0.6};
    config.device_to_host = {kRate, 2, 2, 0.6};
    config.api_us = 1;
    cuda_emu::Reset(config);
    cuda_emu::SetKernelCost([layer_compute_us](const cuda_emu::KernelLaunch& launch) {
      return std::string(launch.name) == "check_page" ? layer_compute_us : 1.0;
    });
    WorldOptions options;
    options.page = {4, 16, 16};  // 4 KiB
    options.layers = layers;
    options.device_blocks = options.host_blocks = blocks;
    options.chunk = MiB(64);
    options.link.rate = ByteRate(kRate);
    options.link.kernel_below = Bytes(0);
    options.link.own_threads = false;
    options.link.clock = ModelledNow;
    auto world = LinkWorld::Create(options);
    ASSERT_TRUE(world.ok()) << world.status();
    world_ = *std::move(world);
    for (int32_t b = 0; b < blocks; ++b) world_->FillHost(b, static_cast<uint32_t>(b) + 1);
  }
  void TearDown() override {
    world_ = nullptr;
    EmulatedTest::TearDown();
  }
  CudaLink& link() { return world_->link(); }

  // Launches a step of which each layer reads one block of each load; returns when it ends, in us.
  void RunStep(const std::vector<CopyId>& loads, int32_t block) {
    for (int layer = 0; layer < world_->pools().layers; ++layer) {
      ASSERT_EQ(link().WaitForLayer(world_->compute(), loads, layer), absl::OkStatus());
      ASSERT_TRUE(world_->CheckDevice(block, static_cast<uint32_t>(block) + 1, layer).ok());
    }
    ASSERT_CUDA_OK(cudaStreamSynchronize(world_->compute()));
  }

  std::unique_ptr<LinkWorld> world_;
};

double Sum(char kind, const std::string& name, double* last) {
  double sum = 0;
  for (const auto& entry : cuda_emu::Trace()) {
    if (entry.kind != kind || (kind == 'K' && entry.name != name) || entry.name == "memset") {
      continue;
    }
    sum += entry.end_us - entry.start_us;
    *last = std::max(*last, entry.end_us);
  }
  return sum;
}

TEST_F(LinkTimingTest, ExposedTimeIsWhatLoadingTakesLongerThanComputing) {
  constexpr int64_t kLayers = 32;
  double worst = 0;  // share of the step
  for (const int blocks : {3, 16, 100}) {
    const double layer_load = blocks * 4096 / kRate * 1e6;
    for (const double ratio : {0.1, 0.5, 0.8, 0.95, 1.05, 1.3, 2.0, 5.0}) {
      const double layer_compute = layer_load * ratio;
      Make(kLayers, blocks, layer_compute);
      const double begin = cuda_emu::HostMicroseconds();
      const Copy load = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, blocks));
      link().Start({&load, 1}, world_->compute());
      RunStep({load.id}, blocks - 1);
      double step_end = 0;
      double load_end = 0;
      const double compute = Sum('K', "check_page", &step_end);
      const double moved = Sum('C', "", &load_end);
      const double exposed = step_end - begin - compute;
      const double ideal = std::max(0.0, moved - compute);
      worst = std::max(worst, std::abs(exposed - ideal) / std::max(moved, compute));
      EXPECT_NEAR(compute, kLayers * layer_compute, 1e-6);
      EXPECT_NEAR(exposed, ideal, 0.1 * std::max(moved, compute))
          << "exposed " << exposed << " us; " << blocks << " blocks, compute/load " << ratio
          << ": loading " << moved << " us, computing " << compute << " us";
      ASSERT_EQ(world_->Take(1).size(), 1u);
      EXPECT_EQ(*world_->DeviceErrors(), 0u);
      world_ = nullptr;
    }
  }
  RecordProperty("worst_permille", static_cast<int>(worst * 1000));
}

TEST_F(LinkTimingTest, WithoutComputeTheLinkIsNeverIdle) {
  Make(16, 100, 1);
  const Copy load = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, 100));
  const double begin = cuda_emu::HostMicroseconds();
  link().Start({&load, 1}, nullptr);
  ASSERT_EQ(world_->Take(1).size(), 1u);
  const double ideal = 16 * 100 * 4096 / kRate * 1e6;
  double end = 0;
  Sum('C', "", &end);
  EXPECT_LE(end - begin, ideal * 1.02 + 10);
}

// An urgent copy that arrives in the middle of a burst ends within slice_time and its own time.
TEST_F(LinkTimingTest, SmallCopiesOvertakeBurstsWithinOneSlice) {
  constexpr int64_t kLayers = 4;
  for (const CopyClass copy_class : {CopyClass::kControl, CopyClass::kDemand}) {
    for (const int pumps : {1, 4, 9, 20}) {
      Make(kLayers, 600, 1);
      std::vector<Copy> burst;
      for (int32_t i = 0; i < 2; ++i) {
        burst.push_back(
            world_->Make(kLoad, CopyClass::kPrefetch, Neighbours(i * 290, i * 290, 290)));
      }
      link().Start(burst, nullptr);
      for (int i = 0; i < pumps; ++i) ASSERT_TRUE(link().Pump(true));
      const double arrival = cuda_emu::HostMicroseconds();
      const Copy urgent = world_->Make(kLoad, copy_class, Neighbours(590, 590, 2));
      link().Start({&urgent, 1}, nullptr);
      std::vector<CopyResult> results;
      while (results.empty()) {
        ASSERT_TRUE(link().Pump(true));
        results = link().TakeFinished();
      }
      // The burst is far from over: the first result is the urgent copy's.
      ASSERT_EQ(results[0].id, urgent.id);
      const double took = cuda_emu::HostMicroseconds() - arrival;
      const double own = kLayers * (2 * 4096 / kRate * 1e6 + 20);
      EXPECT_LE(took, 1000 + own) << "after " << pumps << " pumps";
      ASSERT_EQ(world_->Take(2).size(), 2u);
      world_ = nullptr;
    }
  }
}

// What a step sends itself (tables, ids) goes beside the link's streams and waits no longer.
TEST_F(LinkTimingTest, CopiesOfTheStepItselfWaitForOneSliceAtMost) {
  Make(4, 600, 1);
  const Copy burst = world_->Make(kLoad, CopyClass::kPrefetch, Neighbours(0, 0, 600));
  link().Start({&burst, 1}, nullptr);
  const PinnedArray<int> table(64);
  const DeviceArray<int> device(64);
  for (int i = 0; i < 6; ++i) {
    for (int n = 0; n < 5; ++n) ASSERT_TRUE(link().Pump(true));
    const double arrival = cuda_emu::HostMicroseconds();
    ASSERT_CUDA_OK(cudaMemcpyAsync(device.data(), table.data(), 256, cudaMemcpyHostToDevice,
                                   world_->compute()));
    ASSERT_CUDA_OK(cudaStreamSynchronize(world_->compute()));
    EXPECT_LE(cuda_emu::HostMicroseconds() - arrival, 1000 + 20);
  }
  ASSERT_EQ(world_->Take(1).size(), 1u);
}

TEST_F(LinkTimingTest, BothDirectionsRunAtOnce) {
  Make(8, 200, 1);
  const Copy load = world_->Make(kLoad, CopyClass::kPrefetch, Neighbours(0, 0, 100));
  const Copy store = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(100, 100, 100));
  const std::vector<Copy> copies{load, store};
  const double begin = cuda_emu::HostMicroseconds();
  link().Start(copies, nullptr);
  ASSERT_EQ(world_->Take(2).size(), 2u);
  const double alone = 8 * 100 * 4096 / kRate * 1e6;
  double end = 0;
  Sum('C', "", &end);
  EXPECT_LE(end - begin, alone * 1.1);
}

// Stores step back while a demand load waits, and take the whole line otherwise.
TEST_F(LinkTimingTest, WriteBackGetsItsShareWhileDemandLoadsWait) {
  Make(8, 400, 1);
  const Copy load = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, 200));
  const Copy store = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(200, 200, 200));
  const std::vector<Copy> copies{load, store};
  link().Start(copies, nullptr);
  const std::vector<CopyResult> results = world_->Take(2);
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].id, load.id);
  const absl::Duration alone = absl::Seconds(8 * 200 * 4096 / kRate);
  EXPECT_LE(results[0].finished - results[0].started, alone * 1.1);
  // A quarter of the store during the load, the rest after it: 1.75 times as long in all.
  const double share = absl::FDivDuration(results[1].finished - results[0].started, alone);
  EXPECT_GE(share, 1.55);
  EXPECT_LE(share, 1.95);
}

}  // namespace
}  // namespace sluice::cuda
