#include "backend/kv/remote_value.h"

#include <cstring>

#include "backend/kv/strong_hash.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class RemoteValueTest : public ::testing::Test {
 protected:
  const DiskNamespace space_ = SmallSpace();
  const RemoteValueFormat format_{space_};
  const TestBlock block_ = MakePrompt(1, 1)[0];
  const BlockRecord record_ =
      SealBlock(block_.identity, block_.tokens, block_.bytes, space_.shape.layers);

  std::vector<std::byte> Head() const {
    std::vector<std::byte> head(format_.head_bytes());
    format_.EncodeHead(record_, head);
    return head;
  }
};

TEST_F(RemoteValueTest, HeadsAreReadBack) {
  const absl::StatusOr<BlockRecord> read = format_.DecodeHead(Head());
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->identity, record_.identity);
  EXPECT_EQ(read->tokens, record_.tokens);
  EXPECT_EQ(read->checksums, record_.checksums);
}

TEST_F(RemoteValueTest, EveryByteOfAHeadMatters) {
  const std::vector<std::byte> good = Head();
  for (size_t i = 0; i < good.size(); ++i) {
    for (const int bit : {0, 3, 7}) {
      std::vector<std::byte> bad = good;
      bad[i] ^= std::byte{1} << bit;
      EXPECT_TRUE(absl::IsDataLoss(format_.DecodeHead(bad).status())) << "byte " << i;
    }
  }
}

TEST_F(RemoteValueTest, EveryByteOfAPayloadMatters) {
  std::vector<std::byte> bytes = block_.bytes;
  const Bytes layer = space_.shape.layer_bytes();
  ASSERT_THAT(CheckPayload(record_, block_.identity, bytes, layer, 0), IsOk());
  for (size_t i = 0; i < bytes.size(); i += 7) {
    bytes[i] ^= std::byte{0x10};
    EXPECT_TRUE(absl::IsDataLoss(CheckPayload(record_, block_.identity, bytes, layer, 0))) << i;
    bytes[i] ^= std::byte{0x10};
  }
}

TEST_F(RemoteValueTest, AnotherVersionIsNamed) {
  std::vector<std::byte> head = Head();
  const uint32_t version = 9;
  std::memcpy(head.data() + 8, &version, sizeof(version));
  EXPECT_THAT(std::string(format_.DecodeHead(head).status().message()),
              HasSubstr("format version 9, this server knows 1"));
}

TEST_F(RemoteValueTest, HeadsOfAnotherNamespaceDoNotPass) {
  DiskNamespace other = space_;
  other.dtype = "f32";
  EXPECT_TRUE(absl::IsDataLoss(RemoteValueFormat(other).DecodeHead(Head()).status()));
}

TEST_F(RemoteValueTest, KeysTellNamespacesSaltsAndBlocksApart) {
  const std::string key = format_.Key(block_.identity);
  EXPECT_THAT(key, StartsWith("sluice:kv:1:" + space_.Id() + ":"));
  EXPECT_EQ(key.size(), std::string("sluice:kv:1:").size() + 32 + 1 + 16 + 1 + 32);
  EXPECT_EQ(format_.Key(block_.identity), key);
  BlockIdentity other = block_.identity;
  other.salt ^= 1;
  EXPECT_NE(format_.Key(other), key);
  other = block_.identity;
  other.hash.high ^= 1;
  EXPECT_NE(format_.Key(other), key);
  for (const auto change :
       {+[](DiskNamespace* s) { s->model[0] = 'f'; }, +[](DiskNamespace* s) { s->dtype = "f32"; },
        +[](DiskNamespace* s) { s->codec = "int8"; },
        +[](DiskNamespace* s) { s->shape.tokens_per_block = Tokens(8); },
        +[](DiskNamespace* s) { s->shape.payload = Bytes(3 * 8192); }}) {
    DiskNamespace space = space_;
    change(&space);
    EXPECT_NE(RemoteValueFormat(space).Key(block_.identity), key);
  }
}

TEST(StrongHashTest, IsTheFrontOfSha256OverParentAndTokens) {
  // python3: hashlib.sha256(bytes(16) + struct.pack('<4i', 1, 2, 3, 4)).hexdigest()
  const std::vector<TokenId> tokens = {1, 2, 3, 4};
  const Hash128 hash = StrongBlockHash(Hash128(), tokens);
  EXPECT_EQ(hash.low, uint64_t{0xb7f5d4b817ee603a});
  EXPECT_EQ(hash.high, uint64_t{0x74669b9a711868d5});
}

TEST(StrongHashTest, DependsOnParentAndTokens) {
  const std::vector<TokenId> tokens = {1, 2, 3, 4};
  const Hash128 hash = StrongBlockHash(Hash128(), tokens);
  EXPECT_EQ(StrongBlockHash(Hash128(), tokens), hash);
  EXPECT_NE(StrongBlockHash(Hash128{1, 0}, tokens), hash);
  EXPECT_NE(StrongBlockHash(Hash128(), std::vector<TokenId>{1, 2, 3, 5}), hash);
  EXPECT_NE(StrongBlockHash(Hash128(), std::vector<TokenId>{1, 2, 3}), hash);
}

}  // namespace
}  // namespace sluice::testing
