#include "backend/cuda/device/pool_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace sluice::cuda {
namespace {

using ::testing::HasSubstr;

constexpr Bytes GiB(int64_t n) { return MiB(n * 1024); }

PoolRequest H100() {
  PoolRequest request;
  request.total = GiB(80);
  request.free = GiB(79);
  request.utilization = 0.9;
  request.weights = GiB(16);
  request.workspace = GiB(1);
  request.block = MiB(2);
  return request;
}

TEST(PoolSizeTest, IsWhatTheShareLeaves) {
  EXPECT_EQ(*DevicePoolBlocks(H100()), Blocks((72 - 1 - 16 - 1) * 512));
  PoolRequest request = H100();
  request.utilization = 1;
  EXPECT_EQ(*DevicePoolBlocks(request), Blocks((80 - 1 - 16 - 1) * 512));
  request.most = Blocks(100);
  EXPECT_EQ(*DevicePoolBlocks(request), Blocks(100));
  // Weights that are loaded already are in use instead.
  request = H100();
  request.free = request.free - request.weights;
  request.weights = Bytes(0);
  EXPECT_EQ(*DevicePoolBlocks(request), *DevicePoolBlocks(H100()));
}

TEST(PoolSizeTest, SaysWhyNothingFits) {
  PoolRequest request = H100();
  request.weights = GiB(75);
  absl::Status status = DevicePoolBlocks(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("0.9 of 81920 MiB, less 1024 in use, 76800 for weights and 1024 for "
                        "workspace, leaves 0 blocks"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--gpu-memory-utilization"));
  request = H100();
  request.least = Blocks(1000000);
  status = DevicePoolBlocks(request).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("want at least 1000000"));
}

TEST(PoolSizeTest, RefusesNonsense) {
  for (const double utilization : {0.0, -0.5, 1.01, std::numeric_limits<double>::quiet_NaN()}) {
    PoolRequest request = H100();
    request.utilization = utilization;
    EXPECT_EQ(DevicePoolBlocks(request).status().code(), absl::StatusCode::kInvalidArgument);
  }
  PoolRequest request = H100();
  request.block = Bytes(0);
  EXPECT_EQ(DevicePoolBlocks(request).status().code(), absl::StatusCode::kInvalidArgument);
  request = H100();
  request.free = request.total + Bytes(1);
  EXPECT_EQ(DevicePoolBlocks(request).status().code(), absl::StatusCode::kInvalidArgument);
}

// Never more than fits, and one block more would not fit.
TEST(PoolSizeTest, FillsTheShareAndNoMore) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 2000; ++i) {
    PoolRequest request;
    request.total = Bytes(1 + static_cast<int64_t>(random() % (int64_t{200} << 30)));
    request.free =
        Bytes(static_cast<int64_t>(random() % static_cast<uint64_t>(request.total.value() + 1)));
    request.utilization = 0.01 * static_cast<double>(1 + random() % 100);
    request.weights = Bytes(static_cast<int64_t>(random() % (uint64_t{40} << 30)));
    request.block = Bytes(1 + static_cast<int64_t>(random() % (4 << 20)));
    const auto blocks = DevicePoolBlocks(request);
    const double left = AsDouble(request.total) * request.utilization -
                        AsDouble(request.total - request.free) - AsDouble(request.weights);
    if (blocks.ok()) {
      EXPECT_LE(AsDouble(*blocks) * AsDouble(request.block), left + 1) << "run " << i;
      EXPECT_GT((AsDouble(*blocks) + 1) * AsDouble(request.block), left - 1) << "run " << i;
    } else {
      EXPECT_LT(left, AsDouble(request.block) + 1) << "run " << i;
    }
  }
}

}  // namespace
}  // namespace sluice::cuda
