#include "scheduler/kv/prefix_index.h"

#include <map>
#include <random>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using Tokens2 = std::vector<TokenId>;

TEST(PrefixIndexTest, ATicketFindsItsNodeOnlyAsLongAsThatLives) {
  PrefixIndex index(Tokens(2), Blocks(4));
  const Hash128 h1{1, 0};
  const NodeId a = index.Insert(NodeId(), 0, h1, Tokens2{5, 6});
  const PrefixIndex::Ticket ticket = index.ticket(a);
  EXPECT_EQ(index.Redeem(ticket), a);
  index.RemoveIfUnused(a);  // it has no copy
  EXPECT_FALSE(index.Redeem(ticket).valid()) << "gone";
  const NodeId reused = index.Insert(NodeId(), 0, h1, Tokens2{5, 9});
  EXPECT_EQ(reused, a);
  EXPECT_FALSE(index.Redeem(ticket).valid()) << "another node has its id";
  EXPECT_EQ(index.Redeem(index.ticket(reused)), a);
}

TEST(PrefixIndexTest, FindsOnlyTheSameTokensAfterTheSamePrefixUnderTheSameSalt) {
  PrefixIndex index(Tokens(2), Blocks(8));
  const Hash128 h1{1, 0};
  const Hash128 h2{2, 0};
  const NodeId a = index.Insert(NodeId(), 0, h1, Tokens2{5, 6});
  index.Pin(a);
  const NodeId b = index.Insert(a, 0, h2, Tokens2{7, 8});
  index.Pin(b);
  EXPECT_EQ(index.Find(NodeId(), 0, h1, Tokens2{5, 6}), a);
  EXPECT_EQ(index.Find(a, 0, h2, Tokens2{7, 8}), b);
  EXPECT_FALSE(index.Find(NodeId(), 1, h1, Tokens2{5, 6}).valid()) << "other salt";
  EXPECT_FALSE(index.Find(NodeId(), 0, h1, Tokens2{5, 7}).valid()) << "other tokens, same hash";
  EXPECT_FALSE(index.Find(NodeId(), 0, h2, Tokens2{7, 8}).valid()) << "other parent, same hash";
  EXPECT_FALSE(index.Find(b, 0, h2, Tokens2{7, 8}).valid()) << "other parent, same hash";
}

TEST(PrefixIndexTest, ACollidingPrefixIsNotIndexed) {
  PrefixIndex index(Tokens(1), Blocks(8));
  const NodeId a = index.Insert(NodeId(), 0, {1, 0}, Tokens2{5});
  index.Pin(a);
  EXPECT_FALSE(index.Insert(NodeId(), 0, {1, 0}, Tokens2{6}).valid());
  EXPECT_FALSE(index.Insert(NodeId(), 1, {1, 0}, Tokens2{5}).valid());
  EXPECT_EQ(index.size(), Blocks(1));
  EXPECT_THAT(index.CheckInvariants(), IsOk());
}

TEST(PrefixIndexTest, AGhostStaysAsLongAsItHasChildrenOrPins) {
  PrefixIndex index(Tokens(1), Blocks(8));
  const NodeId a = index.Insert(NodeId(), 0, {1, 0}, Tokens2{5});
  const NodeId b = index.Insert(a, 0, {2, 0}, Tokens2{5});
  index.node(b).device = BlockId(3);
  index.RemoveIfUnused(a);
  EXPECT_EQ(index.size(), Blocks(2));
  EXPECT_THAT(index.CheckInvariants(), IsOk());
  index.Pin(b);
  index.node(b).device = BlockId();
  index.RemoveIfUnused(b);
  EXPECT_EQ(index.size(), Blocks(2));
  index.Unpin(b);
  EXPECT_EQ(index.size(), Blocks(0)) << "the whole chain goes";
  EXPECT_THAT(index.CheckInvariants(), IsOk());
}

TEST(PrefixIndexTest, AClaimKeepsAGhost) {
  PrefixIndex index(Tokens(1), Blocks(8));
  const NodeId a = index.FindOrInsert(NodeId(), 0, {1, 0}, Tokens2{5});
  const NodeId b = index.FindOrInsert(a, 0, {2, 0}, Tokens2{6});
  index.node(b).claims = 1;
  index.RemoveIfUnused(b);
  EXPECT_EQ(index.FindOrInsert(a, 0, {2, 0}, Tokens2{6}), b);
  EXPECT_FALSE(index.FindOrInsert(a, 0, {2, 0}, Tokens2{7}).valid()) << "same hash";
  EXPECT_THAT(index.CheckInvariants(), IsOk());
  index.node(b).claims = 0;
  index.RemoveIfUnused(b);
  EXPECT_EQ(index.size(), Blocks(0));
}

TEST(PrefixIndexTest, AStaleHintIsHarmless) {
  PrefixIndex index(Tokens(1), Blocks(8));
  const NodeId a = index.Insert(NodeId(), 0, {1, 0}, Tokens2{5});
  index.Pin(a);
  const NodeId b = index.Insert(a, 0, {2, 0}, Tokens2{6});
  index.RemoveIfUnused(b);  // a still remembers it
  EXPECT_FALSE(index.Find(a, 0, {2, 0}, Tokens2{6}).valid());
  const NodeId c = index.Insert(NodeId(), 0, {2, 0}, Tokens2{6});  // takes b's place
  index.Pin(c);
  EXPECT_EQ(c, b);
  EXPECT_FALSE(index.Find(a, 0, {2, 0}, Tokens2{6}).valid());
}

// The reference: a map from salt and whole prefix to node. With 2 bits of hash, collisions abound.
TEST(PrefixIndexPropertyTest, AgreesWithAMapOfWholePrefixes) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    const uint64_t mask = seed % 3 == 0 ? 3 : ~uint64_t{0};
    PrefixIndex index(Tokens(2), Blocks(4));
    std::map<std::pair<uint64_t, Tokens2>, NodeId> model;
    for (int i = 0; i < 500; ++i) {
      const uint64_t salt = rng() % 2;
      Hash128 hash = RootHash(0, salt);
      NodeId parent;
      Tokens2 prefix;
      for (size_t depth = 0; depth < 1 + rng() % 4; ++depth) {
        const Tokens2 tokens = {static_cast<TokenId>(rng() % 2), 0};
        hash = BlockHash(hash, tokens);
        const Hash128 weak{hash.low & mask, 0};
        prefix.insert(prefix.end(), tokens.begin(), tokens.end());
        const auto it = model.find({salt, prefix});
        NodeId id = index.Find(parent, salt, weak, tokens);
        ASSERT_EQ(id, it == model.end() ? NodeId() : it->second);
        if (rng() % 2 == 0) {
          id = index.FindOrInsert(parent, salt, weak, tokens);
        } else if (!id.valid()) {
          id = index.Insert(parent, salt, weak, tokens);
        }
        if (!id.valid()) break;
        if (it == model.end()) index.Pin(id);
        model[{salt, prefix}] = id;
        parent = id;
      }
      ASSERT_THAT(index.CheckInvariants(), IsOk());
    }
  }
}

}  // namespace
}  // namespace sluice::testing
