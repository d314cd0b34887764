// 8-bit KV on both sides of the link: the copies know no numbers, whichever way they are made.
#include <gtest/gtest.h>

#include <vector>

#include "tests/cuda_on_cpu/backend/link_fixture.h"

namespace sluice::cuda {
namespace {

class LinkKvTypeTest : public LinkTest {
 protected:
  void RoundTrip(const std::vector<Copy::Pair>& out, const std::vector<Copy::Pair>& back) {
    for (const LinkDirection direction : {kStore, kLoad}) {
      const bool load = direction == kLoad;
      const Copy copy = world_->Make(direction, load ? CopyClass::kDemand : CopyClass::kWriteBack,
                                     load ? back : out);
      link().Start({&copy, 1}, world_->compute());
      const std::vector<CopyResult> results = world_->Take(1);
      ASSERT_EQ(results.size(), 1u);
      ASSERT_EQ(results[0].status, absl::OkStatus());
      EXPECT_EQ(results[0].bytes.value(), static_cast<int64_t>(copy.blocks.size()) *
                                              world_->pools().device_block_bytes().value());
    }
  }
};

TEST_F(LinkKvTypeTest, EightBitBlocksGoAndComeBackBitForBit) {
  for (const KvType type : {KvType::kFp8E4m3, KvType::kInt8}) {
    for (const Bytes kernel_below : {Bytes(0), MiB(1)}) {
      SCOPED_TRACE(::testing::Message()
                   << static_cast<int>(type) << ", kernel below " << kernel_below.value());
      WorldOptions options;
      options.page = {2, 80, 16, type, 128};
      options.host_type = type;
      options.link.kernel_below = kernel_below;
      Make(options);
      ASSERT_FALSE(world_->pools().quantizes());
      for (int32_t b = 0; b < 4; ++b) {
        ASSERT_EQ(world_->FillDevice(b, 70 + static_cast<uint32_t>(b)), absl::OkStatus());
      }
      // Neighbours and others, to places in another order.
      RoundTrip({{BlockId(0), BlockId(5)}, {BlockId(1), BlockId(6)}, {BlockId(3), BlockId(2)}},
                {{BlockId(6), BlockId(4)}, {BlockId(5), BlockId(7)}, {BlockId(2), BlockId(5)}});
      EXPECT_TRUE(world_->HostHolds(5, 70));
      EXPECT_TRUE(world_->HostHolds(6, 71));
      EXPECT_TRUE(world_->HostHolds(2, 73));
      ASSERT_EQ(world_->CheckDevice(7, 70), absl::OkStatus());
      ASSERT_EQ(world_->CheckDevice(4, 71), absl::OkStatus());
      ASSERT_EQ(world_->CheckDevice(5, 73), absl::OkStatus());
      ASSERT_EQ(world_->DeviceErrors().value_or(1), 0u);
      world_ = nullptr;
    }
  }
}

// From 8 bits to other 8 bits there is no way.
TEST_F(LinkKvTypeTest, EightBitsDoNotBecomeOthersOnTheLink) {
  WorldOptions options;
  options.page = {2, 64, 16, KvType::kFp8E4m3, 128};
  options.host_type = KvType::kInt8;
  options.link.own_threads = false;
  const auto world = LinkWorld::Create(options);
  ASSERT_FALSE(world.ok());
  EXPECT_EQ(world.status().message(),
            "the offload codec needs 16-bit KV on the device; store 8-bit KV as it is");
}

}  // namespace
}  // namespace sluice::cuda
