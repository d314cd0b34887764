// The machine that flags describe, and a server's stand-in for a model.
#include "service/cli/sim_serving.h"

#include "gmock/gmock.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

TEST(SimMachineFlagsTest, PoolsAndGeometryFollowFromModelAndFlags) {
  SimMachineFlags flags;
  flags.device_kv = Bytes(int64_t{8} << 30);
  flags.host_kv = Bytes(int64_t{64} << 30);
  const absl::StatusOr<SimMachineSetup> setup = ResolveSimMachine(flags);
  ASSERT_TRUE(setup.ok()) << setup.status();
  const SimOptions& machine = setup->machine;
  // 32 layers, 8 KV heads of 128, keys and values, two bytes: 128 KiB per token.
  EXPECT_EQ(machine.geometry.bytes_per_block, Bytes(64 * 131072));
  EXPECT_EQ(machine.device_blocks, Blocks(1024));
  EXPECT_EQ(machine.host_blocks, Blocks(8192));
  EXPECT_EQ(machine.disk_blocks, Blocks(0));
  EXPECT_EQ(machine.cost.layers, 32);
  EXPECT_EQ(setup->Describe(), "llama-3.1-8b on 1 x h100-pcie5");
}

TEST(SimMachineFlagsTest, TheLinkCanBeStated) {
  SimMachineFlags flags;
  flags.link_gbps = 15;
  const absl::StatusOr<SimMachineSetup> setup = ResolveSimMachine(flags);
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_NEAR(1 / setup->machine.cost.links[0].per_byte.value(), 15e9, 1);
}

TEST(SimMachineFlagsTest, HalfTheKvBytesAreHalfTheBlock) {
  SimMachineFlags flags;
  flags.kv = "fp8";
  const absl::StatusOr<SimMachineSetup> setup = ResolveSimMachine(flags);
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_EQ(setup->machine.geometry.bytes_per_block, Bytes(64 * 65536));
  EXPECT_EQ(setup->machine.cost.kv_bytes_per_token, Bytes(65536));
}

TEST(SimMachineFlagsTest, WhatDoesNotFitOrExistIsNamed) {
  SimMachineFlags flags;
  flags.device_kv = Bytes(1 << 20);
  EXPECT_THAT(ResolveSimMachine(flags).status().message(), HasSubstr("--device-kv-gib"));
  flags = {};
  flags.model = "llama-3.1-9b";
  EXPECT_THAT(ResolveSimMachine(flags).status().message(), HasSubstr("llama-3.1-9b"));
  flags = {};
  flags.model = "llama-3.1-405b";
  EXPECT_FALSE(ResolveSimMachine(flags).ok());  // weights of 810 GB on one device
}

TEST(SimServingTest, AServerGetsAModelsShapeAndABackendInRealTime) {
  SimMachineFlags flags;
  const absl::StatusOr<SimServing> serving = MakeSimServing(flags, 50, absl::Now);
  ASSERT_TRUE(serving.ok()) << serving.status();
  EXPECT_EQ(serving->model.layers, 32);
  EXPECT_EQ(serving->model.max_position_embeddings, 131072);
  EXPECT_EQ(serving->backend->info().name, "sim");
  EXPECT_EQ(serving->backend->info().vocab_size, serving->model.vocab);
  ASSERT_EQ(serving->model.eos_ids.size(), 1u);
  EXPECT_LT(serving->model.eos_ids[0], serving->model.vocab);
  EXPECT_NEAR(static_cast<double>(serving->parameters), 8.03e9, 0.05e9);
  EXPECT_TRUE(serving->cost.Validate().ok());
}

}  // namespace
}  // namespace sluice
