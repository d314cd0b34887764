#include "backend/kv/disk_record.h"

#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;

class DiskRecordTest : public ::testing::Test {
 protected:
  DiskRecordTest() : bytes_(static_cast<size_t>(format_.bytes())) {
    const TestBlock block = MakePrompt(5, 1, /*salt=*/9)[0];
    record_.generation = 41;
    record_.path = {1, 2};
    record_.block = SealBlock(block.identity, block.tokens, block.bytes, 3);
    format_.Encode(BlockId(6), record_, bytes_);
  }

  const DiskRecordFormat format_{SmallShape(), 99};
  DiskRecord record_;
  std::vector<std::byte> bytes_;
};

TEST_F(DiskRecordTest, ComesBackAsItWas) {
  const absl::StatusOr<DiskRecord> read = format_.Decode(BlockId(6), bytes_);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->generation, 41);
  EXPECT_EQ(read->path, record_.path);
  EXPECT_EQ(read->block.identity, record_.block.identity);
  EXPECT_EQ(read->block.tokens, record_.block.tokens);
  EXPECT_EQ(read->block.checksums, record_.block.checksums);
}

TEST_F(DiskRecordTest, IsSmallEnoughToScanManyQuickly) {
  EXPECT_EQ(format_.bytes() % 64, 0);
  const StoreShape large{Blocks(0), MiB(4), 32, Tokens(32)};
  EXPECT_LE(DiskRecordFormat(large, 0).bytes(), 512);
}

TEST_F(DiskRecordTest, EveryFlippedBitIsNoticed) {
  for (size_t bit = 0; bit < 8 * bytes_.size(); ++bit) {
    bytes_[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_THAT(format_.Decode(BlockId(6), bytes_),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("slot 6")));
    bytes_[bit / 8] ^= std::byte{1} << (bit % 8);
  }
}

TEST_F(DiskRecordTest, EveryTornRecordIsNoticedAndAnEmptyOneIsEmpty) {
  for (size_t whole = 0; whole < bytes_.size(); ++whole) {
    std::vector<std::byte> torn(bytes_.size());
    std::copy(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(whole), torn.begin());
    if (torn == bytes_) continue;  // the rest was zero
    const absl::Status status = format_.Decode(BlockId(6), torn).status();
    EXPECT_EQ(status.code(), whole == 0 ? absl::StatusCode::kNotFound : absl::StatusCode::kDataLoss)
        << whole << " bytes: " << status;
  }
}

TEST_F(DiskRecordTest, TheMarkEmptiesIt) {
  std::fill(bytes_.begin(), bytes_.begin() + DiskRecordFormat::kMark, std::byte{0});
  EXPECT_THAT(format_.Decode(BlockId(6), bytes_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("empty")));
}

TEST_F(DiskRecordTest, OfAnotherSlotOrNamespaceItIsNoGood) {
  EXPECT_THAT(format_.Decode(BlockId(7), bytes_),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("slot 7")));
  EXPECT_THAT(DiskRecordFormat(SmallShape(), 98).Decode(BlockId(6), bytes_),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("broken")));
}

TEST(PathDigestTest, DependsOnKeyParentSaltAndTokens) {
  PathKey key{};
  key[5] = std::byte{1};
  PathKey other = key;
  other[33] = std::byte{2};
  const std::vector<TokenId> tokens = {1, 2, 3, 4};
  const std::vector<TokenId> changed = {1, 2, 3, 5};
  const Hash128 digest = PathDigest(key, {}, 0, tokens);
  EXPECT_EQ(PathDigest(key, {}, 0, tokens), digest);
  EXPECT_NE(PathDigest(other, {}, 0, tokens), digest);
  EXPECT_NE(PathDigest(key, {1, 0}, 0, tokens), digest);
  EXPECT_NE(PathDigest(key, {}, 1, tokens), digest);
  EXPECT_NE(PathDigest(key, {}, 0, changed), digest);
}

}  // namespace
}  // namespace sluice::testing
