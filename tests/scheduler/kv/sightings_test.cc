#include "scheduler/kv/sightings.h"

#include "gtest/gtest.h"

namespace sluice::testing {
namespace {

Hash128 HashOf(TokenId token) {
  const TokenId tokens[] = {token};
  return BlockHash(RootHash(0, 0), tokens);
}

TEST(SightingsTest, CountsEachBlockForItself) {
  Sightings sightings(Blocks(1024));
  EXPECT_EQ(sightings.Add(HashOf(1)), 1);
  EXPECT_EQ(sightings.Add(HashOf(2)), 1);
  EXPECT_EQ(sightings.Add(HashOf(1)), 2);
  EXPECT_EQ(sightings.Add(HashOf(1)), 3);
}

TEST(SightingsTest, StopsCountingAt255) {
  Sightings sightings(Blocks(1));
  for (int i = 1; i < 300; ++i) EXPECT_EQ(sightings.Add(HashOf(1)), std::min(i, 255));
}

TEST(SightingsTest, RemembersMostOfAsManyAsExpected) {
  Sightings sightings(Blocks(4096));
  for (TokenId i = 0; i < 2048; ++i) sightings.Add(HashOf(i));
  int known = 0;
  for (TokenId i = 0; i < 2048; ++i) known += sightings.Add(HashOf(i)) == 2 ? 1 : 0;
  EXPECT_GT(known, 1200);
}

}  // namespace
}  // namespace sluice::testing
