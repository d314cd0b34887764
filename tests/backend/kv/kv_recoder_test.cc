// Blocks between codecs, alone and on their way through a DiskLink.
#include "backend/kv/kv_recoder.h"

#include <cmath>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/backend/kv/codec_oracle.h"
#include "tests/backend/kv/link_world.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr KvShape kShape{3, 16, 2, 32, KvElement::kBF16};
constexpr KvCodecKind kKinds[] = {KvCodecKind::kRaw, KvCodecKind::kFp8, KvCodecKind::kInt8,
                                  KvCodecKind::kInt4};

std::vector<std::byte> RandomBlock(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<std::byte> block;
  for (int64_t layer = 0; layer < kShape.layers; ++layer) {
    std::vector<float> numbers(static_cast<size_t>(2 * kShape.half_elements()));
    for (float& x : numbers) x = RoundToBf16(static_cast<double>(normal(random)));
    const std::vector<std::byte> slice = ToElements(kShape, numbers);
    block.insert(block.end(), slice.begin(), slice.end());
  }
  return block;
}

KvCodec Codec(KvCodecKind kind) {
  KvCodecOptions options;
  options.kind = kind;
  return *KvCodec::Create(kShape, options);
}

std::vector<std::byte> Encoded(KvCodecKind kind, const std::vector<std::byte>& plain) {
  const KvCodec codec = Codec(kind);
  std::vector<std::byte> block(codec.encoded_block_bytes().size());
  const size_t in = kShape.slice_bytes().size();
  const size_t out = codec.encoded_slice_bytes().size();
  for (size_t layer = 0; layer < 3; ++layer) {
    EXPECT_THAT(codec.EncodeLayer(std::span(plain).subspan(layer * in, in),
                                  std::span(block).subspan(layer * out, out)),
                IsOk());
  }
  return block;
}

std::vector<std::byte> Decoded(KvCodecKind kind, const std::vector<std::byte>& encoded) {
  const KvCodec codec = Codec(kind);
  std::vector<std::byte> plain(kShape.block_bytes().size());
  const size_t in = codec.encoded_slice_bytes().size();
  const size_t out = kShape.slice_bytes().size();
  for (size_t layer = 0; layer < 3; ++layer) {
    codec.DecodeLayer(std::span(encoded).subspan(layer * in, in),
                      std::span(plain).subspan(layer * out, out));
  }
  return plain;
}

bool MayFollow(KvCodecKind host, KvCodecKind stored) {
  return stored == host || host == KvCodecKind::kRaw || stored == KvCodecKind::kInt4;
}

TEST(KvRecoderTest, WhatIsStoredIsDecodedOnceAndEncodedOnce) {
  const std::vector<std::byte> plain = RandomBlock(1);
  for (const KvCodecKind host : kKinds) {
    for (const KvCodecKind stored : kKinds) {
      if (!MayFollow(host, stored)) continue;
      const auto recoder = KvRecoder::Create(kShape, host, stored);
      ASSERT_THAT(recoder, IsOk());
      SCOPED_TRACE(recoder->name());
      EXPECT_EQ(recoder->same(), host == stored);
      const std::vector<std::byte> on_host = Encoded(host, plain);
      ASSERT_EQ(recoder->host_bytes(), Bytes(static_cast<int64_t>(on_host.size())));
      std::vector<std::byte> scratch;
      std::vector<std::byte> kept(recoder->stored_bytes().size());
      ASSERT_THAT(recoder->ToStored(on_host, kept, scratch), IsOk());
      EXPECT_EQ(kept, Encoded(stored, Decoded(host, on_host)));
      std::vector<std::byte> back(on_host.size());
      ASSERT_THAT(recoder->ToHost(kept, back, scratch), IsOk());
      EXPECT_EQ(back, Encoded(host, Decoded(stored, kept)));
    }
  }
}

TEST(KvRecoderTest, NamesSayEverythingNumbersWereRoundedBy) {
  const auto name = [](KvCodecKind host, KvCodecKind stored) {
    return KvRecoder::Create(kShape, host, stored)->name();
  };
  EXPECT_EQ(name(KvCodecKind::kRaw, KvCodecKind::kRaw), "raw") << "as before there were codecs";
  EXPECT_EQ(name(KvCodecKind::kRaw, KvCodecKind::kInt8), "int8-kt128-vt128-v1");
  EXPECT_EQ(name(KvCodecKind::kInt8, KvCodecKind::kInt8), "int8-kt128-vt128-v1");
  EXPECT_EQ(name(KvCodecKind::kInt8, KvCodecKind::kInt4), "int8-kt128-vt128-v1+int4-kc32-vt32-v1");
  EXPECT_NE(name(KvCodecKind::kFp8, KvCodecKind::kInt4),
            name(KvCodecKind::kInt8, KvCodecKind::kInt4));
}

TEST(KvRecoderTest, AStoreIsNeverFinerThanTheHost) {
  for (const KvCodecKind host : kKinds) {
    for (const KvCodecKind stored : kKinds) {
      const auto recoder = KvRecoder::Create(kShape, host, stored);
      EXPECT_EQ(recoder.ok(), MayFollow(host, stored));
    }
  }
  EXPECT_THAT(KvRecoder::Create(kShape, KvCodecKind::kInt8, KvCodecKind::kRaw).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("a store of raw behind a host pool of int8")));
}

// ---- Through a DiskLink ------------------------------------------------------------------------

class RecodedDiskTest : public ::testing::Test {
 protected:
  RecodedDiskTest()
      : recoder_(*KvRecoder::Create(kShape, KvCodecKind::kRaw, KvCodecKind::kInt8)),
        store_(OpenStore(
            SmallStore(dir_, 64, SmallShape(recoder_.stored_bytes().value(), kShape.layers)))),
        world_(*store_, 16, &recoder_) {}

  // A prompt whose blocks hold numbers.
  static std::vector<TestBlock> Prompt(uint64_t seed, size_t count) {
    std::vector<TestBlock> blocks = MakePrompt(seed, count);
    for (size_t i = 0; i < count; ++i) blocks[i].bytes = RandomBlock(seed * 100 + i);
    return blocks;
  }
  static std::vector<std::byte> Rounded(const TestBlock& block) {
    return Decoded(KvCodecKind::kInt8, Encoded(KvCodecKind::kInt8, block.bytes));
  }

  const TempDir dir_;
  const KvRecoder recoder_;
  std::unique_ptr<DiskStore> store_;
  LinkWorld world_;
};

TEST_F(RecodedDiskTest, BlocksComeBackRoundedOnceAndTakeLessOfTheDisk) {
  const std::vector<TestBlock> blocks = Prompt(1, 5);
  const CopyResult written = world_.Spill(1, blocks, 0, 0);
  ASSERT_THAT(written.status, IsOk());
  EXPECT_EQ(written.bytes, Bytes(5 * recoder_.stored_bytes().value()));
  EXPECT_LT(written.bytes.value(), 5 * kShape.block_bytes().value() * 0.55);
  world_.ClearHost();
  ASSERT_THAT(world_.Stage(2, blocks, 0, 7).status, IsOk());
  for (size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_EQ(world_.HostBlock(7 + i), Rounded(blocks[i])) << i;
  }
}

TEST_F(RecodedDiskTest, ABlockTheCodecRefusesFailsAloneAndIsNotDamage) {
  std::vector<TestBlock> blocks = Prompt(2, 4);
  const uint16_t nan = 0x7fc0;
  std::memcpy(blocks[1].bytes.data() + 200, &nan, sizeof(nan));
  const CopyResult result = world_.Spill(1, blocks, 0, 0);
  EXPECT_THAT(result.status, StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("1 of 4 blocks")));
  EXPECT_THAT(result.failed, ElementsAre(1));
  EXPECT_EQ(result.corrupt, 0);
  const CopyResult read = world_.Stage(2, blocks, 0, 8);
  EXPECT_THAT(read.failed, ElementsAre(1)) << "never written";
  EXPECT_EQ(world_.HostBlock(8 + 3), Rounded(blocks[3]));
}

TEST_F(RecodedDiskTest, ACopyOfNothingButRefusedBlocksDoesNotBlameTheDisk) {
  std::vector<TestBlock> blocks = Prompt(3, 2);
  const uint16_t infinity = 0x7f80;
  for (TestBlock& block : blocks) std::memcpy(block.bytes.data(), &infinity, sizeof(infinity));
  EXPECT_THAT(world_.Spill(1, blocks, 0, 0).status,
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("2 of 2 blocks")));
}

TEST_F(RecodedDiskTest, BytesThatAreNotTheStoredOnesAreNeverDecoded) {
  std::vector<TestBlock> blocks = Prompt(4, 3);
  ASSERT_THAT(world_.Spill(1, blocks, 0, 0).status, IsOk());
  world_.ClearHost();
  std::vector<TestBlock> wanted = blocks;
  wanted[1].identity = MakePrompt(5, 1)[0].identity;
  const CopyResult result = world_.Stage(2, wanted, 0, 8);
  EXPECT_THAT(result.status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("slot 1")));
  EXPECT_EQ(result.corrupt, 1);
  EXPECT_EQ(world_.HostBlock(9), std::vector<std::byte>(kShape.block_bytes().size()));
}

}  // namespace
}  // namespace sluice::testing
