#include "backend/cuda/link/transfer_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace sluice::cuda {
namespace {

constexpr auto kLoad = LinkDirection::kHostToDevice;
constexpr auto kStore = LinkDirection::kDeviceToHost;

// Pools in ordinary memory.
struct Pools {
  explicit Pools(int64_t layers, int64_t chunk = 0) {
    pools.page = {1, 16, 16};
    pools.layers = layers;
    pools.device_blocks = Blocks(16);
    pools.host_blocks = Blocks(16);
    pools.host_chunk = Blocks(chunk);
    device.resize(pools.device_bytes().size());
    host.resize(pools.host_bytes().size());
    pools.device = device.data();
    pools.host = host.data();
  }
  CudaKvPools pools;
  std::vector<std::byte> device;
  std::vector<std::byte> host;
};

std::vector<Copy::Pair> Pairs(std::vector<std::pair<int, int>> ids) {
  std::vector<Copy::Pair> pairs;
  for (const auto& [source, target] : ids) pairs.push_back({BlockId(source), BlockId(target)});
  return pairs;
}

TEST(TransferPlanTest, NeighboursOnBothSidesAreOneDescriptorInAnyOrder) {
  Pools world(4);
  TransferPlan plan;
  PlanTransfer(world.pools, kLoad, 2, Pairs({{5, 9}, {3, 7}, {4, 8}, {6, 1}}), Bytes(0), &plan);
  ASSERT_EQ(plan.runs.size(), 2u);
  EXPECT_FALSE(plan.by_kernel);
  EXPECT_EQ(plan.runs[0].rows, 3);
  EXPECT_EQ(plan.runs[0].width, 1024);
  EXPECT_EQ(plan.runs[0].from, world.pools.HostPage(2, 3));
  EXPECT_EQ(plan.runs[0].to, world.pools.DevicePage(2, 7));
  EXPECT_EQ(plan.runs[0].from_pitch, 4096);
  EXPECT_EQ(plan.runs[0].to_pitch, 1024);
  EXPECT_EQ(plan.runs[1].rows, 1);
}

TEST(TransferPlanTest, OneLayerIsContiguousOnBothSides) {
  Pools world(1);
  TransferPlan plan;
  PlanTransfer(world.pools, kStore, 0, Pairs({{0, 4}, {1, 5}, {2, 6}}), Bytes(0), &plan);
  ASSERT_EQ(plan.runs.size(), 1u);
  EXPECT_EQ(plan.runs[0].rows, 1);
  EXPECT_EQ(plan.runs[0].width, 3072);
}

TEST(TransferPlanTest, RunsEndAtRegistrations) {
  for (const auto direction : {kLoad, kStore}) {
    Pools world(2, /*chunk=*/4);
    TransferPlan plan;
    PlanTransfer(world.pools, direction, 0, Pairs({{2, 2}, {3, 3}, {4, 4}, {5, 5}}), Bytes(0),
                 &plan);
    ASSERT_EQ(plan.runs.size(), 2u);
    EXPECT_EQ(plan.runs[0].rows, 2);
  }
}

TEST(TransferPlanTest, TheKernelTakesSmallDescriptorsAndWhatIsQuantized) {
  Pools world(2);
  TransferPlan plan;
  const auto scattered = Pairs({{0, 3}, {7, 1}});
  PlanTransfer(world.pools, kLoad, 0, scattered, Bytes(1024), &plan);
  EXPECT_FALSE(plan.by_kernel);
  PlanTransfer(world.pools, kLoad, 0, scattered, Bytes(1025), &plan);
  EXPECT_TRUE(plan.by_kernel);
  PlanTransfer(world.pools, kLoad, 0, Pairs({{0, 3}, {1, 4}}), Bytes(1025), &plan);
  EXPECT_FALSE(plan.by_kernel);
  world.pools.host_type = KvType::kInt8;
  PlanTransfer(world.pools, kLoad, 0, scattered, Bytes(0), &plan);
  EXPECT_TRUE(plan.by_kernel);
  ASSERT_EQ(plan.pairs.size(), 2u);
  EXPECT_EQ(plan.pairs[1].from, 7);
  EXPECT_EQ(plan.pairs[1].to, 1);
}

// Executed by memcpy, a plan does what copying page by page does.
TEST(TransferPlanTest, PlansMoveEveryPageToItsPlace) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    Pools world(1 + static_cast<int64_t>(random() % 3), static_cast<int64_t>(random() % 5));
    for (std::byte& b : world.device) b = static_cast<std::byte>(random());
    for (std::byte& b : world.host) b = static_cast<std::byte>(random());
    const bool load = random() % 2 == 0;
    const auto layer = static_cast<int>(random() % static_cast<uint64_t>(world.pools.layers));
    std::vector<std::pair<int, int>> ids;
    int target = static_cast<int>(random() % 4);
    for (int source = 0; source < 16 && target < 16; ++source) {
      if (random() % 4 == 0) continue;
      ids.emplace_back(source, target);
      target += random() % 4 == 0 ? 2 : 1;
    }
    if (ids.empty()) continue;
    std::shuffle(ids.begin(), ids.end(), random);
    Pools want = world;
    want.pools.device = want.device.data();
    want.pools.host = want.host.data();
    for (const auto& [s, t] : ids) {
      std::memcpy(load ? want.pools.DevicePage(layer, t) : want.pools.HostPage(layer, t),
                  load ? want.pools.HostPage(layer, s) : want.pools.DevicePage(layer, s), 1024);
    }
    TransferPlan plan;
    PlanTransfer(world.pools, load ? kLoad : kStore, layer, Pairs(ids), Bytes(0), &plan);
    int64_t bytes = 0;
    for (const CopyRun& run : plan.runs) {
      bytes += run.bytes();
      for (int64_t row = 0; row < run.rows; ++row) {
        std::memcpy(run.to + row * run.to_pitch, run.from + row * run.from_pitch,
                    static_cast<size_t>(run.width));
      }
    }
    EXPECT_EQ(bytes, static_cast<int64_t>(ids.size()) * 1024);
    EXPECT_EQ(world.device, want.device);
    EXPECT_EQ(world.host, want.host);
  }
}

}  // namespace
}  // namespace sluice::cuda
