#include "backend/kv/block_store.h"

#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;

class BlockRecordTest : public ::testing::Test {
 protected:
  const TestBlock block_ = MakePrompt(1, 2)[1];
  const BlockRecord record_ = SealBlock(block_.identity, block_.tokens, block_.bytes, 3);
  const Bytes layer_{4096};
};

TEST_F(BlockRecordTest, TheBytesThatWereSealedPass) {
  EXPECT_EQ(record_.checksums.size(), 3U);
  EXPECT_THAT(CheckPayload(record_, block_.identity, block_.bytes, layer_, 0), IsOk());
}

TEST_F(BlockRecordTest, LayersPassOneByOne) {
  for (int64_t layer = 0; layer < 3; ++layer) {
    const auto slice =
        std::span<const std::byte>(block_.bytes).subspan(static_cast<size_t>(layer) * 4096, 4096);
    EXPECT_THAT(CheckPayload(record_, block_.identity, slice, layer_, layer), IsOk());
    EXPECT_THAT(CheckPayload(record_, block_.identity, slice, layer_, (layer + 1) % 3),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
  }
}

TEST_F(BlockRecordTest, EveryFlippedBitIsNoticedAndItsLayerNamed) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 500; ++i) {
    std::vector<std::byte> bytes = block_.bytes;
    const size_t at = random() % bytes.size();
    bytes[at] ^= std::byte{1} << (random() % 8);
    EXPECT_THAT(
        CheckPayload(record_, block_.identity, bytes, layer_, 0),
        StatusIs(absl::StatusCode::kDataLoss, HasSubstr("layer " + std::to_string(at / 4096))));
  }
}

TEST_F(BlockRecordTest, BytesAreCheckedAsTheyArrive) {
  std::vector<std::byte> bytes = block_.bytes;
  for (const size_t step : {1000, 4096, 5000, 12288}) {
    PayloadCheck check(block_.identity, bytes, layer_, 0);
    for (size_t at = 0; at < bytes.size(); at += step) check.Arrived(at + step);
    EXPECT_THAT(check.Finish(record_), IsOk()) << step;
  }
  PayloadCheck check(block_.identity, bytes, layer_, 0);
  bytes[5000] ^= std::byte{1};
  check.Arrived(8192);
  EXPECT_THAT(check.Finish(record_),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("mismatch in layer 1")));
}

TEST_F(BlockRecordTest, WhatArrivesAgainIsCheckedAgain) {
  std::vector<std::byte> bytes = block_.bytes;
  PayloadCheck check(block_.identity, bytes, layer_, 0);
  check.Arrived(bytes.size());
  bytes[0] ^= std::byte{1};  // another connection brings something else
  check.Arrived(0);
  EXPECT_THAT(check.Finish(record_),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("mismatch in layer 0")));
  check.Arrived(bytes.size());
  bytes[0] ^= std::byte{1};
  check.Arrived(4096);  // fewer than before: it begins again
  EXPECT_THAT(check.Finish(record_), IsOk());
}

TEST_F(BlockRecordTest, AnotherBlockIsRefusedByName) {
  BlockIdentity other = block_.identity;
  other.salt = 1;
  EXPECT_THAT(CheckPayload(record_, other, block_.bytes, layer_, 0),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another block")));
}

TEST_F(BlockRecordTest, ChecksumsAreTiedToTheName) {
  BlockIdentity other = block_.identity;
  other.hash.high ^= 4;
  BlockRecord forged = record_;
  forged.identity = other;
  EXPECT_THAT(CheckPayload(forged, other, block_.bytes, layer_, 0),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
}

TEST(StoreShapeTest, WhatIsOutOfRangeIsNamed) {
  StoreShape shape = SmallShape();
  shape.slots = Blocks(1);
  EXPECT_THAT(shape.Validate(), IsOk());
  shape.layers = 7;
  EXPECT_THAT(shape.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layers")));
  shape = SmallShape();
  EXPECT_THAT(shape.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("slots")));
}

}  // namespace
}  // namespace sluice::testing
