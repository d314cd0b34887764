// The offload codec on the way: quantized as blocks are stored, dequantized as they are loaded.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "backend/kv/kv_codec.h"
#include "tests/cuda_on_cpu/backend/link_fixture.h"

namespace sluice::cuda {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LinkCodecTest : public LinkTest {};

// Every kind of number that survives, byte for byte as KvCodec does it.
TEST_F(LinkCodecTest, TheOffloadCodecQuantizesStoresAndDequantizesLoads) {
  for (const KvType type : {KvType::kFp8E4m3, KvType::kInt8}) {
    WorldOptions options;
    options.page = {2, 64, 16, KvType::kHalf, 64};
    options.host_type = type;
    Make(options);
    const CudaKvPools& pools = world_->pools();
    const auto page = static_cast<size_t>(pools.page_bytes());
    const auto coded = static_cast<size_t>(pools.host_page_bytes());
    EXPECT_LT(coded, page);
    std::vector<uint16_t> numbers(page / 2 * 3);
    for (size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = static_cast<uint16_t>((i * 2654435761u) % 0x6000);
    }
    for (int64_t layer = 0; layer < 3; ++layer) {
      ASSERT_CUDA_OK(cudaMemcpy(pools.DevicePage(layer, 5),
                                numbers.data() + static_cast<size_t>(layer) * page / 2, page,
                                cudaMemcpyHostToDevice));
    }
    const Copy store = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(5, 7, 1));
    link().Start({&store, 1}, world_->compute());
    std::vector<CopyResult> results = world_->Take(1);
    ASSERT_EQ(results.size(), 1u);
    ASSERT_EQ(results[0].status, absl::OkStatus());
    EXPECT_EQ(results[0].bytes.value(), 3 * static_cast<int64_t>(coded));
    const Copy load = world_->Make(kLoad, CopyClass::kDemand, Neighbours(7, 0, 1));
    link().Start({&load, 1}, world_->compute());
    results = world_->Take(1);
    ASSERT_EQ(results.size(), 1u);
    ASSERT_EQ(results[0].status, absl::OkStatus());

    const auto codec =
        KvCodec::Create({1, 16, 2, 64, KvElement::kBF16},
                        {type == KvType::kInt8 ? KvCodecKind::kInt8 : KvCodecKind::kFp8, 64});
    ASSERT_TRUE(codec.ok()) << codec.status();
    std::vector<std::byte> want(coded), decoded(page), got(page);
    for (int64_t layer = 0; layer < 3; ++layer) {
      const auto slice =
          std::as_bytes(std::span(numbers)).subspan(static_cast<size_t>(layer) * page, page);
      ASSERT_TRUE(codec->EncodeLayer(slice, want).ok());
      EXPECT_EQ(std::memcmp(pools.HostPage(layer, 7), want.data(), coded), 0) << layer;
      codec->DecodeLayer(want, decoded);
      ASSERT_CUDA_OK(
          cudaMemcpy(got.data(), pools.DevicePage(layer, 0), page, cudaMemcpyDeviceToHost));
      EXPECT_EQ(got, decoded) << layer;
    }
    world_ = nullptr;
  }
}

TEST_F(LinkCodecTest, NumbersThatCannotBeQuantizedFailTheStore) {
  WorldOptions options;
  options.page = {1, 64, 16, KvType::kHalf, 64};
  options.host_type = KvType::kInt8;
  options.link.rate = ByteRate(1e6);
  Make(options);
  const CudaKvPools& pools = world_->pools();
  const auto page = static_cast<size_t>(pools.page_bytes());
  std::vector<uint16_t> numbers(page / 2, 0x3f80);
  for (int32_t block = 0; block < 2; ++block) {
    for (int64_t layer = 0; layer < 3; ++layer) {
      numbers[11] = block == 0 && layer == 1 ? 0x7f80 : 0x3f80;  // infinity
      ASSERT_CUDA_OK(
          cudaMemcpy(pools.DevicePage(layer, block), numbers.data(), page, cudaMemcpyHostToDevice));
    }
  }
  const Copy bad = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(0, 0, 1));
  const Copy good = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(1, 1, 1));
  link().Start({&bad, 1}, nullptr);
  link().Start({&good, 1}, nullptr);
  const std::vector<CopyResult> results = world_->Take(2);
  ASSERT_EQ(results.size(), 2u);
  for (const CopyResult& result : results) {
    if (result.id == good.id) {
      EXPECT_EQ(result.status, absl::OkStatus());
    } else {
      EXPECT_EQ(result.status.code(), absl::StatusCode::kOutOfRange);
      EXPECT_THAT(std::string(result.status.message()), HasSubstr("1 of 1 blocks"));
      EXPECT_THAT(std::string(result.status.message()), HasSubstr("layer 1"));
      EXPECT_THAT(result.failed, ElementsAre(0));
    }
  }
}

// Blocks beside one that cannot be quantized are kept, whatever slice and layer it turns up in.
TEST_F(LinkCodecTest, OnlyTheBlocksWithSuchNumbersFail) {
  WorldOptions options;
  options.page = {1, 64, 16, KvType::kHalf, 64};
  options.host_type = KvType::kFp8E4m3;
  // A slice has one or two blocks of a layer: the copy is many of them.
  options.link.rate = ByteRate(6e6);
  Make(options);
  const CudaKvPools& pools = world_->pools();
  EXPECT_LT(link().slice_blocks(), 3);
  const auto page = static_cast<size_t>(pools.page_bytes());
  const auto coded = static_cast<size_t>(pools.host_page_bytes());
  const auto content = [&](int32_t block, int64_t layer) {
    std::vector<uint16_t> numbers(page / 2, static_cast<uint16_t>(0x3f80 + 8 * block + layer));
    if (block == 2 && layer == 0) numbers[900] = 0x7fc0;                 // a NaN
    if (block == 2 && layer == 2) numbers[0] = 0xff80;                   // and again
    if (block == 4 && layer == 2) numbers[numbers.size() - 1] = 0x7e00;  // above 2^120
    return numbers;
  };
  for (int32_t block = 0; block < 6; ++block) {
    for (int64_t layer = 0; layer < 3; ++layer) {
      ASSERT_CUDA_OK(cudaMemcpy(pools.DevicePage(layer, block), content(block, layer).data(), page,
                                cudaMemcpyHostToDevice));
    }
  }
  const Copy store = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(0, 3, 6));
  link().Start({&store, 1}, world_->compute());
  std::vector<CopyResult> results = world_->Take(1);
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(results[0].status.message()), HasSubstr("2 of 6 blocks"));
  EXPECT_THAT(results[0].failed, ElementsAre(2, 4));
  const auto codec = KvCodec::Create({1, 16, 1, 64, KvElement::kBF16}, {KvCodecKind::kFp8, 64});
  ASSERT_TRUE(codec.ok()) << codec.status();
  std::vector<std::byte> want(coded);
  for (const int32_t block : {0, 1, 3, 5}) {
    for (int64_t layer = 0; layer < 3; ++layer) {
      const std::vector<uint16_t> numbers = content(block, layer);
      ASSERT_TRUE(codec->EncodeLayer(std::as_bytes(std::span(numbers)), want).ok());
      EXPECT_EQ(std::memcmp(pools.HostPage(layer, 3 + block), want.data(), coded), 0)
          << "block " << block << ", layer " << layer;
    }
  }
  // The same slots of the lane, without such numbers.
  const Copy again = world_->Make(kStore, CopyClass::kWriteBack, Neighbours(0, 3, 2));
  link().Start({&again, 1}, world_->compute());
  results = world_->Take(1);
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].status, absl::OkStatus());
  EXPECT_THAT(results[0].failed, IsEmpty());
}

}  // namespace
}  // namespace sluice::cuda
