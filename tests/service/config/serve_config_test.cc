#include "service/config/serve_config.h"

#include "gtest/gtest.h"
#include "service/config/memory.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::testing::HasSubstr;

constexpr Bytes kMemory = MiB(16 * 1024);

TEST(ServeConfigTest, TheNameIsTheDirectoryUnlessGiven) {
  ServeConfig config;
  config.model = std::string("/models/llama/");
  EXPECT_EQ(config.DisplayName(), "llama");
  config.model = std::string("deploy/demo/model");
  EXPECT_EQ(config.DisplayName(), "model");
  config.model = std::string("../m");
  EXPECT_EQ(config.DisplayName(), "m");
  config.model = std::string("..");
  EXPECT_EQ(config.DisplayName(), "model");
  config.served_model_name = std::string("mine");
  EXPECT_EQ(config.DisplayName(), "mine");
}

TEST(ServeConfigTest, PoolsDefaultToAGibibyteOrAQuarterOfMemory) {
  const ServeConfig config;
  EXPECT_EQ(config.DeviceBlocks(MiB(1), kMemory), Blocks(1024));
  EXPECT_EQ(config.HostBlocks(MiB(1), kMemory), Blocks(1024));
  EXPECT_EQ(config.DeviceBlocks(MiB(1), MiB(1024)), Blocks(256));
}

TEST(ServeConfigTest, PoolsFollowBytesAndBlocks) {
  ServeConfig config;
  config.device_kv_bytes = MiB(10);
  config.host_kv_bytes = Bytes(0);
  EXPECT_EQ(config.DeviceBlocks(MiB(3), kMemory), Blocks(3));
  EXPECT_EQ(config.HostBlocks(MiB(3), kMemory), Blocks(0));
  config.device_kv_blocks = Blocks(7);
  config.host_kv_blocks = Blocks(9);
  EXPECT_EQ(config.DeviceBlocks(MiB(3), kMemory), Blocks(7));
  EXPECT_EQ(config.HostBlocks(MiB(3), kMemory), Blocks(9));
}

TEST(ServeConfigTest, TheDevicePoolIsNeverEmpty) {
  ServeConfig config;
  config.device_kv_bytes = Bytes(1);
  EXPECT_EQ(config.DeviceBlocks(MiB(3), kMemory), Blocks(1));
}

TEST(ServeConfigTest, MetricsCanBeOffFreeOrFixed) {
  ServeConfig config;
  EXPECT_EQ(config.MetricsPort(), 9090);
  for (const char* off : {"off", "-1"}) {
    config.metrics_port = std::string(off);
    EXPECT_EQ(config.MetricsPort(), std::nullopt);
  }
  config.metrics_port = std::string("0");
  EXPECT_EQ(config.MetricsPort(), 0);
}

TEST(ServeConfigTest, TheHttpPortIsOffOnRequestOnly) {
  ServeConfig config;
  config.model = std::string("m");
  EXPECT_EQ(config.HttpPort(), kDefaultHttpPort);
  for (const char* off : {"off", "0"}) {
    config.http_port = std::string(off);
    EXPECT_EQ(config.HttpPort(), std::nullopt);
  }
  config.http_port = std::string("auto");
  EXPECT_EQ(config.HttpPort(), 0);
  config.http_port = std::string("50051");
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--http-port: 50051 is also --port")));
  config.http_port = std::string("9090");
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--http-port: 9090 is also --metrics-port")));
}

TEST(ServeConfigTest, ValidateNamesTheField) {
  ServeConfig config;
  config.model = std::string("m");
  EXPECT_THAT(config.Validate(), IsOk());
  config.block_size = Tokens(40);
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          "--block-size: 40 is not a multiple of 16"));
  config.block_size = Tokens(48);
  config.metrics_port = std::string("50051");
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--metrics-port: 50051 is also --port")));
  config.metrics_port = std::string("0");
  config.port = 0;
  EXPECT_THAT(config.Validate(), IsOk());
}

TEST(ServeConfigTest, ACpuServerNeedsAModelAndASimulatedOneHasNone) {
  ServeConfig config;
  EXPECT_THAT(config.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--model is required")));
  config.backend = "sim";
  EXPECT_THAT(config.Validate(), IsOk());
  EXPECT_EQ(config.DisplayName(), "llama-3.1-8b");
  config.model_profile = "/models/qwen/config.json";
  EXPECT_EQ(config.DisplayName(), "qwen");
  config.model_profile = "profiles/mine-7b.json";
  EXPECT_EQ(config.DisplayName(), "mine-7b");
  config.model = std::string("m");
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--model: --backend=sim reads no checkpoint")));
  config.model.clear();
  config.host_kv_blocks = Blocks(3);
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--host-kv-blocks: not with --backend=sim")));
}

TEST(ServeConfigTest, ADiskTierNeedsItsDirectoryAHostPoolAndSomethingToReuse) {
  ServeConfig config;
  config.model = "m";
  config.kv_disk_bytes = MiB(64);
  const auto refused = [&config](const char* why) {
    EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refused("--kv-disk-gib: needs --kv-disk-dir");
  config.kv_disk_dir = "d";
  EXPECT_THAT(config.Validate(), IsOk());
  EXPECT_EQ(config.DiskBytes(), MiB(64));
  config.kv_disk_bytes.reset();
  EXPECT_EQ(config.DiskBytes(), kDefaultDiskBytes);
  config.host_kv_blocks = Blocks(0);
  refused("--kv-disk-dir: needs a host pool");
  config.host_kv_blocks.reset();
  config.prefix_caching = false;
  refused("--kv-disk-dir: holds KV to be reused");
  config.backend = "sim";
  config.model.clear();
  refused("--kv-disk-dir: not with --backend=sim");
}

TEST(MemoryTest, AControlGroupLimitCountsIfItIsSmaller) {
  EXPECT_EQ(ParseCgroupLimit("1048576", kMemory), MiB(1));
  EXPECT_EQ(ParseCgroupLimit("max", kMemory), kMemory);
  EXPECT_EQ(ParseCgroupLimit("", kMemory), kMemory);
  EXPECT_EQ(ParseCgroupLimit("9223372036854771712", kMemory), kMemory);
  EXPECT_GT(MemoryLimit(), MiB(16));
}

}  // namespace
}  // namespace sluice
