// What CudaLink promises, one promise at a time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/cuda_on_cpu/backend/link_fixture.h"

namespace sluice::cuda {
namespace {

using ::testing::HasSubstr;

TEST_F(LinkTest, BlocksGoToTheDeviceAndBack) {
  for (const bool own_threads : {false, true}) {
    Make({}, own_threads);
    for (int32_t b = 0; b < 4; ++b) world_->FillHost(b, 10 + static_cast<uint32_t>(b));
    const Copy load = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 2, 4));
    link().Start({&load, 1}, world_->compute());
    std::vector<CopyResult> results = world_->Take(1);
    ASSERT_EQ(results.size(), 1u);
    EXPECT_EQ(results[0].status, absl::OkStatus());
    EXPECT_EQ(results[0].id, load.id);
    EXPECT_EQ(results[0].bytes.value(), 4 * 3 * 1024);
    EXPECT_LE(results[0].started, results[0].finished);
    for (int32_t b = 0; b < 4; ++b) {
      ASSERT_TRUE(world_->CheckDevice(2 + b, 10 + static_cast<uint32_t>(b)).ok());
    }
    const Copy store = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(2, 6, 4));
    link().Start({&store, 1}, world_->compute());
    results = world_->Take(1);
    ASSERT_EQ(results.size(), 1u);
    EXPECT_EQ(results[0].status, absl::OkStatus());
    for (int32_t b = 0; b < 4; ++b) {
      EXPECT_TRUE(world_->HostHolds(6 + b, 10 + static_cast<uint32_t>(b)));
    }
    EXPECT_EQ(*world_->DeviceErrors(), 0u);
    world_ = nullptr;
  }
}

TEST_F(LinkTest, ALayerWaitsForItsOwnBytesOnly) {
  WorldOptions options;
  options.link.rate = ByteRate(1e6);  // one page per slice
  Make(options);
  world_->FillHost(0, 7);
  const Copy load = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, 1));
  link().Start({&load, 1}, world_->compute());
  EXPECT_FALSE(link().Settled(load.id, 0));
  for (int layer = 0; layer < 3; ++layer) {
    ASSERT_EQ(link().WaitForLayer(world_->compute(), {&load.id, 1}, layer), absl::OkStatus());
    ASSERT_TRUE(world_->CheckDevice(0, 7, layer).ok());
    // What follows is not even in the stream, so nothing can have waited for it.
    if (layer == 0) {
      EXPECT_FALSE(link().Settled(load.id, 2));
    }
  }
  EXPECT_EQ(*world_->DeviceErrors(), 0u);
  EXPECT_EQ(world_->Take(1).size(), 1u);
  EXPECT_TRUE(link().Settled(load.id, 2));
  // Long over: nothing to wait for.
  EXPECT_EQ(link().WaitForLayer(world_->compute(), {&load.id, 1}, 2), absl::OkStatus());
}

TEST_F(LinkTest, ACopyNeverStartedIsAnError) {
  Make({});
  const CopyId id(5);
  const absl::Status status = link().WaitForLayer(world_->compute(), {&id, 1}, 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("never started"));
}

TEST_F(LinkTest, DiskCopiesAreRefused) {
  for (const bool own_threads : {false, true}) {
    Make({}, own_threads);
    const Copy copy =
        world_->Make(LinkDirection::kDiskToHost, CopyClass::kDemand, Neighbours(0, 0, 1));
    link().Start({&copy, 1}, nullptr);
    const std::vector<CopyResult> results = world_->Take(1);
    ASSERT_EQ(results.size(), 1u);
    EXPECT_EQ(results[0].status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(results[0].status.message()), HasSubstr("disk"));
    world_ = nullptr;
  }
}

TEST_F(LinkTest, ARevokedCopyEndsCancelledAndItsWaiterHears) {
  WorldOptions options;
  options.link.rate = ByteRate(1e6);
  Make(options);
  const Copy load = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, 4));
  link().Start({&load, 1}, nullptr);
  EXPECT_TRUE(link().Pump(false));
  link().Revoke({&load.id, 1});
  const absl::Status waited = link().WaitForLayer(world_->compute(), {&load.id, 1}, 2);
  EXPECT_EQ(waited.code(), absl::StatusCode::kCancelled);
  const std::vector<CopyResult> results = world_->Take(1);
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].status.code(), absl::StatusCode::kCancelled);
  const CopyId unknown(99);
  link().Revoke({&unknown, 1});
  while (link().Pump(true)) {
  }
  EXPECT_TRUE(link().TakeFinished().empty());
}

TEST_F(LinkTest, NeighboursAreOneDescriptorAndScatteredBlocksOneBatch) {
  WorldOptions options;
  options.layers = 2;
  options.chunk = MiB(1);
  options.link.kernel_below = Bytes(0);
  Make(options);
  const Copy neighbours = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, 4));
  const Copy scattered = world_->Make(kStore, CopyClass::kWriteBack,
                                      {{BlockId(0), BlockId(9)}, {BlockId(3), BlockId(5)}});
  link().Start({&neighbours, 1}, nullptr);
  ASSERT_EQ(world_->Take(1).size(), 1u);
  link().Start({&scattered, 1}, nullptr);
  ASSERT_EQ(world_->Take(1).size(), 1u);
  std::vector<std::string> names;
  for (const auto& entry : cuda_emu::Trace()) {
    if (entry.kind == 'C' && entry.name != "memset") names.push_back(entry.name);
  }
  EXPECT_THAT(names, ::testing::ElementsAre("memcpy2d", "memcpy2d", "batch[2]", "batch[2]"));
}

TEST_F(LinkTest, SmallDescriptorsGoThroughTheKernel) {
  WorldOptions options;
  options.layers = 1;
  options.link.kernel_below = Bytes(3000);  // a page is 1024 bytes
  Make(options);
  world_->FillHost(0, 3);
  world_->FillHost(4, 4);
  // Two scattered pages: 1024 bytes per descriptor. Four neighbours: 4096.
  const Copy small =
      world_->Make(kLoad, CopyClass::kDemand, {{BlockId(4), BlockId(1)}, {BlockId(0), BlockId(6)}});
  const Copy large = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 2, 4));
  link().Start({&small, 1}, nullptr);
  ASSERT_EQ(world_->Take(1).size(), 1u);
  link().Start({&large, 1}, nullptr);
  ASSERT_EQ(world_->Take(1).size(), 1u);
  std::vector<std::string> names;
  for (const auto& entry : cuda_emu::Trace()) {
    if (entry.kind != 'H' && entry.name != "memset") names.push_back(entry.name);
  }
  EXPECT_THAT(names, ::testing::ElementsAre("kv_copy", "memcpy"));  // one layer: all side by side
  ASSERT_TRUE(world_->CheckDevice(1, 4).ok() && world_->CheckDevice(6, 3).ok());
  EXPECT_EQ(*world_->DeviceErrors(), 0u);
}

TEST_F(LinkTest, ALostDeviceEndsAllCopiesNowAndLater) {
  for (const bool own_threads : {false, true}) {
    cuda_emu::Reset();
    Make({}, own_threads);
    cuda_emu::FailStreamOperation(2, cudaErrorECCUncorrectable);
    std::vector<Copy> copies;
    for (int32_t i = 0; i < 3; ++i) {
      copies.push_back(world_->Make(kLoad, CopyClass::kDemand, Neighbours(i, i, 1)));
    }
    link().Start(copies, nullptr);
    const CopyId last = copies[2].id;
    // Whether it hears at once or by its event, the step must not believe the data is there.
    static_cast<void>(link().WaitForLayer(world_->compute(), {&last, 1}, 2));
    std::vector<CopyResult> results = world_->Take(3);
    ASSERT_EQ(results.size(), 3u);
    EXPECT_EQ(results[2].status.code(), absl::StatusCode::kUnavailable);
    // Which call hears of it first is the schedule's choice.
    EXPECT_THAT(std::string(results[2].status.message()),
                ::testing::AllOf(HasSubstr("device lost: "), HasSubstr("cudaErrorECCUncorrectable"),
                                 HasSubstr("restart the process")));
    EXPECT_TRUE(world_->health().lost());
    const Copy later = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(0, 0, 1));
    link().Start({&later, 1}, world_->compute());
    results = world_->Take(1);
    ASSERT_EQ(results.size(), 1u);
    EXPECT_EQ(results[0].status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(link().WaitForLayer(world_->compute(), {&last, 1}, 2).code(),
              absl::StatusCode::kUnavailable);
    const ActivitySnapshot activity = world_->meter().Snapshot(absl::Now());
    for (const auto& direction : activity.links) EXPECT_EQ(direction.in_flight, Bytes(0));
    world_ = nullptr;
    EXPECT_EQ(cuda_emu::Leaks(), cuda_emu::LeakCounts());
  }
  cuda_emu::Reset();
}

TEST_F(LinkTest, ACallThatFailsEndsItsCopyOnly) {
  WorldOptions options;
  options.link.kernel_below = Bytes(0);
  options.layers = 1;
  Make(options);
  world_->FillHost(1, 5);
  const Copy first = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, 1));
  const Copy second = world_->Make(kLoad, CopyClass::kDemand, Neighbours(1, 1, 1));
  cuda_emu::FailCall(cuda_emu::Api::kMemcpy, 1, cudaErrorInvalidValue);
  link().Start({&first, 1}, nullptr);
  link().Start({&second, 1}, nullptr);
  EXPECT_EQ(link().WaitForLayer(world_->compute(), {&second.id, 1}, 0), absl::OkStatus());
  const absl::Status waited = link().WaitForLayer(world_->compute(), {&first.id, 1}, 0);
  EXPECT_EQ(waited.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(waited.message()), HasSubstr("cudaMemcpyAsync: cudaErrorInvalidValue"));
  EXPECT_EQ(world_->Take(2).size(), 2u);
  EXPECT_FALSE(world_->health().lost());
  ASSERT_TRUE(world_->CheckDevice(1, 5).ok());
  EXPECT_EQ(*world_->DeviceErrors(), 0u);
}

// Without a fence the store would run first in this order of streams.
TEST_F(LinkTest, WhereNoFenceCanBeRecordedTheStepIsWaitedFor) {
  for (const cuda_emu::Api api : {cuda_emu::Api::kEventRecord, cuda_emu::Api::kEventCreate}) {
    cuda_emu::Config config;
    config.stream_order = cuda_emu::StreamOrder::kCopiesFirst;
    cuda_emu::Reset(config);
    Make({});
    ASSERT_TRUE(world_->FillDevice(5, 50).ok());
    cuda_emu::FailCall(api, 1, cudaErrorMemoryAllocation);
    const Copy store = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(5, 7, 1));
    link().Start({&store, 1}, world_->compute());
    const std::vector<CopyResult> results = world_->Take(1);
    ASSERT_EQ(results.size(), 1u);
    EXPECT_EQ(results[0].status, absl::OkStatus());
    EXPECT_TRUE(world_->HostHolds(7, 50));
    world_ = nullptr;
  }
}

// The result must not be out before the bytes are, though no event tells.
TEST_F(LinkTest, WhereNoSliceCanBeClosedTheStreamIsWaitedFor) {
  Make({});
  world_->FillHost(2, 20);
  cuda_emu::FailCall(cuda_emu::Api::kEventRecord, 1, cudaErrorMemoryAllocation);
  const Copy load = world_->Make(kLoad, CopyClass::kDemand, Neighbours(2, 3, 1));
  link().Start({&load, 1}, nullptr);
  ASSERT_EQ(link().WaitForLayer(world_->compute(), {&load.id, 1}, 0), absl::OkStatus());
  std::memset(world_->pools().HostPage(0, 2), 0, 1024);
  ASSERT_TRUE(world_->CheckDevice(3, 20, 0).ok());
  EXPECT_EQ(*world_->DeviceErrors(), 0u);
  ASSERT_EQ(world_->Take(1).size(), 1u);
}

TEST_F(LinkTest, DestructionWaitsForWhatIsUnderWay) {
  cuda_emu::Config config;
  config.idle_releases = true;
  cuda_emu::Reset(config);
  Make({});
  ASSERT_TRUE(world_->FillDevice(5, 50).ok());
  const Copy store = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(5, 7, 1));
  link().Start({&store, 1}, world_->compute());
  for (int layer = 0; layer < 3; ++layer) {
    ASSERT_EQ(link().WaitForLayer(world_->compute(), {&store.id, 1}, layer), absl::OkStatus());
  }
  world_->DropLink();
  EXPECT_TRUE(world_->HostHolds(7, 50));
}

// Blocks that cannot be pinned fail the copies that need them, and no others.
TEST_F(LinkTest, CopiesWaitForTheHostPoolToBeRegistered) {
  for (const bool own_threads : {false, true}) {
    WorldOptions options;
    options.layers = 4;  // a block is a page, and a registration
    options.host_blocks = 6;
    options.background = true;
    cuda_emu::FailCall(cuda_emu::Api::kHostRegister, 4, cudaErrorMemoryAllocation);
    Make(options, own_threads);
    const Copy good = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, 3));
    const Copy bad = world_->Make(kLoad, CopyClass::kDemand, Neighbours(3, 3, 1));
    const std::vector<Copy> copies{good, bad};
    link().Start(copies, nullptr);
    const std::vector<CopyResult> results = world_->Take(2);
    ASSERT_EQ(results.size(), 2u);
    for (const CopyResult& result : results) {
      if (result.id == good.id) {
        EXPECT_EQ(result.status, absl::OkStatus());
      } else {
        EXPECT_EQ(result.status.code(), absl::StatusCode::kResourceExhausted);
        EXPECT_THAT(std::string(result.status.message()), HasSubstr("can be pinned"));
      }
    }
    world_ = nullptr;
  }
}

TEST_F(LinkTest, ActivityCountsWhatMovedAndWhatDidNot) {
  WorldOptions options;
  options.link.rate = ByteRate(1e6);
  Make(options);
  const Copy load = world_->Make(kLoad, CopyClass::kDemand, Neighbours(0, 0, 2));
  const Copy dropped = world_->Make(kLoad, CopyClass::kPrefetch, Neighbours(3, 3, 1));
  const std::vector<Copy> copies{load, dropped};
  link().Start(copies, nullptr);
  EXPECT_EQ(world_->meter().Snapshot(absl::UnixEpoch()).links[0].in_flight.value(), 3 * 3 * 1024);
  link().Revoke({&dropped.id, 1});
  ASSERT_EQ(world_->Take(2).size(), 2u);
  const auto snapshot = world_->meter().Snapshot(absl::UnixEpoch() + absl::Seconds(1));
  EXPECT_EQ(snapshot.links[0].moved.value(), 2 * 3 * 1024);
  EXPECT_EQ(snapshot.links[0].operations, 1);
  EXPECT_EQ(snapshot.links[0].in_flight.value(), 0);
  EXPECT_GT(snapshot.links[0].busy, absl::ZeroDuration());
  EXPECT_EQ(snapshot.links[1].busy, absl::ZeroDuration());
}

TEST_F(LinkTest, OptionsAreChecked) {
  WorldOptions options;
  options.link.slices_in_flight = 0;
  auto world = LinkWorld::Create(options);
  EXPECT_THAT(std::string(world.status().message()), HasSubstr("slices_in_flight is 0; want 1"));
  options = {};
  options.link.rate = ByteRate(0);
  EXPECT_THAT(std::string(LinkWorld::Create(options).status().message()), HasSubstr("rate is 0"));
  options = {};
  options.page.type = KvType::kInt8;
  options.host_type = KvType::kFp8E4m3;
  EXPECT_THAT(std::string(LinkWorld::Create(options).status().message()), HasSubstr("16-bit KV"));
}

TEST_F(LinkTest, SlicesTakeNoLongerThanAsked) {
  CudaKvPools pools;
  pools.page = {8, 128, 16};  // 64 KiB
  pools.layers = 1;
  CudaLinkOptions options;
  options.rate = ByteRate(65536e6);  // a page is a microsecond
  options.per_descriptor = Seconds(0.5e-6);
  options.slice_time = absl::Microseconds(100);
  options.slices_in_flight = 2;
  EXPECT_EQ(SliceBlocks(pools, options), 50);
  options.per_descriptor = Seconds(2e-6);
  EXPECT_EQ(SliceBlocks(pools, options), 25);
  options.kernel_below = Bytes(1 << 20);  // a kernel has no descriptors
  EXPECT_EQ(SliceBlocks(pools, options), 50);
  options.slice_time = absl::Nanoseconds(10);
  EXPECT_EQ(SliceBlocks(pools, options), 1);
}

}  // namespace
}  // namespace sluice::cuda
