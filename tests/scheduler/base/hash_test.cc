#include "scheduler/base/hash.h"

#include <vector>

#include "gtest/gtest.h"

namespace sluice::testing {
namespace {

TEST(HashTest, DependsOnSeedSaltParentAndEveryToken) {
  const Hash128 root = RootHash(1, 2);
  EXPECT_EQ(root, RootHash(1, 2));
  EXPECT_FALSE(root == RootHash(2, 1));
  EXPECT_FALSE(root == RootHash(1, 3));
  for (const size_t size : {1, 32, 256, 257, 1000}) {
    SCOPED_TRACE(size);
    std::vector<TokenId> tokens(size, 7);
    const Hash128 hash = BlockHash(root, tokens);
    EXPECT_EQ(hash, BlockHash(root, tokens));
    EXPECT_FALSE(hash == BlockHash(RootHash(1, 3), tokens));
    tokens.back() = 8;
    EXPECT_FALSE(hash == BlockHash(root, tokens));
  }
}

// Known values: stored blocks are found again by the next release only if hashes stay the same.
TEST(HashTest, IsXxh3OfParentThenTokens) {
  const Hash128 root = RootHash(0, 0);
  const Hash128 child = BlockHash(root, std::vector<TokenId>{1, 2, 3, 4});
  EXPECT_EQ(root.low, 426192624259599149U);
  EXPECT_EQ(root.high, 16508114401449212002U);
  EXPECT_EQ(child.low, 12000964838097406380U);
  EXPECT_EQ(child.high, 10239140012731493650U);
}

}  // namespace
}  // namespace sluice::testing
