// Blocks that the disk tier has kept over a restart.
#include <algorithm>

#include "tests/scheduler/kv/kv_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class KvAdoptionTest : public KvFixture {
 protected:
  static KvCacheOptions WithDisk() {
    KvCacheOptions options = Small();
    options.disk_blocks = Blocks(6);
    return options;
  }
  KvAdoptionTest() : KvFixture(WithDisk()) {}

  // Block `i` of the prompt in `slot`.
  static StoredBlock Stored(const Prompt& p, size_t i, int32_t slot) {
    StoredBlock block;
    block.slot = BlockId(slot);
    block.identity.hash = p.hashes[i];
    block.identity.first = i == 0;
    if (i > 0) block.identity.parent = p.hashes[i - 1];
    block.tokens = std::span<const TokenId>(p.tokens).subspan(2 * i, 2);
    return block;
  }
};

TEST_F(KvAdoptionTest, AdoptedBlocksAreFoundStagedAndUsed) {
  Prompt p({1, 2, 3, 4, 5, 6});
  EXPECT_THAT(cache_.Adopt(std::vector{Stored(p, 2, 0), Stored(p, 0, 5), Stored(p, 1, 3)}),
              IsEmpty());
  Check({});
  EXPECT_EQ(Match(p).on_disk, Blocks(3));
  EXPECT_EQ(cache_.Stage(match_, Blocks(9), RequestId(1), CopyClass::kDemand), Blocks(3));
  const std::vector<Copy> copies = EndCopies();
  ASSERT_THAT(copies, SizeIs(1));
  EXPECT_EQ(copies[0].blocks[0].source, BlockId(5));
  EXPECT_EQ(copies[0].identities[0].hash, p.hashes[0]);
  EXPECT_TRUE(copies[0].identities[0].first);
  EXPECT_EQ(copies[0].identities[1].parent, p.hashes[0]);
  EXPECT_THAT(copies[0].tokens, IsEmpty()) << "the disk has them";
  EXPECT_EQ(Admit(&p, 3).from_disk, Blocks(3));
  Check({&p});
}

TEST_F(KvAdoptionTest, ABlockWithoutItsPrefixIsGivenBack) {
  const Prompt p({1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_THAT(cache_.Adopt(std::vector{Stored(p, 0, 1), Stored(p, 2, 2), Stored(p, 3, 4)}),
              UnorderedElementsAre(BlockId(2), BlockId(4)));
  Check({});
  EXPECT_EQ(Match(p).on_disk, Blocks(1));
  EXPECT_EQ(cache_.disk().free(), Blocks(5));
}

TEST_F(KvAdoptionTest, OfTwoOfOneHashTheNewerStays) {
  const Prompt p({1, 2});
  EXPECT_THAT(cache_.Adopt(std::vector{Stored(p, 0, 1), Stored(p, 0, 2)}), ElementsAre(BlockId(1)));
  Check({});
  EXPECT_TRUE(cache_.disk().owner(BlockId(2)).valid());
}

TEST_F(KvAdoptionTest, BlocksInARingAreGivenBack) {
  const Prompt p({1, 2, 3, 4});
  StoredBlock first = Stored(p, 1, 0);
  StoredBlock second = Stored(p, 0, 1);
  second.identity.first = false;
  second.identity.parent = p.hashes[1];
  EXPECT_THAT(cache_.Adopt(std::vector{first, second}), SizeIs(2));
  Check({});
}

TEST_F(KvAdoptionTest, TheLongestUnusedGoFirstAndAPromptLosesItsEndFirst) {
  const Prompt old({1, 2, 3, 4});
  const Prompt young({5, 6, 7, 8});
  // The head of `old` was written last of all; its end long ago.
  EXPECT_THAT(cache_.Adopt(std::vector{Stored(old, 1, 0), Stored(young, 0, 1), Stored(young, 1, 2),
                                       Stored(old, 0, 3)}),
              IsEmpty());
  std::vector<BlockId> order;
  for (int i = 0; i < 4; ++i) {
    order.push_back(cache_.disk().Oldest());
    // As good as eviction: the youngest now.
    const_cast<BlockPool&>(cache_.disk()).Touch(order.back());
  }
  EXPECT_THAT(order, ElementsAre(BlockId(0), BlockId(2), BlockId(1), BlockId(3)));
}

TEST_F(KvAdoptionTest, SpilledBlocksCarryTheirNames) {
  Prompt p({1, 2, 3, 4});
  Compute(&p, 2);
  EndCopies();  // the store
  const std::vector<Copy> copies = EndCopies();
  ASSERT_THAT(copies, SizeIs(1));
  ASSERT_EQ(copies[0].direction, LinkDirection::kHostToDisk);
  EXPECT_THAT(copies[0].tokens, ElementsAre(1, 2, 3, 4));
  ASSERT_THAT(copies[0].identities, SizeIs(2));
  EXPECT_EQ(copies[0].identities[0], Stored(p, 0, 0).identity);
  EXPECT_EQ(copies[0].identities[1], Stored(p, 1, 0).identity);
}

TEST_F(KvAdoptionTest, OneBadBlockOfAStagingCostsOneBlock) {
  Prompt p({1, 2, 3, 4, 5, 6});
  cache_.Adopt(std::vector{Stored(p, 0, 0), Stored(p, 1, 1), Stored(p, 2, 2)});
  Match(p);
  cache_.Stage(match_, Blocks(9), RequestId(1), CopyClass::kDemand);
  const std::vector<Copy> copies = Take();
  cache_.OnCopyDone(copies[0].id, CopyOutcome::kFailed, std::vector<int32_t>{1});
  Check({});
  Match(p);
  EXPECT_EQ(match_.on_host, Blocks(1)) << "up to the bad one";
  EXPECT_EQ(cache_.disk().free(), Blocks(4)) << "the bad one's slot";
  EXPECT_EQ(cache_.host().cached(), Blocks(2));
}

TEST_F(KvAdoptionTest, OneBadBlockOfASpillCostsOneBlock) {
  Prompt p({1, 2, 3, 4, 5, 6});
  Compute(&p, 3);
  EndCopies();
  const std::vector<Copy> copies = Take();
  cache_.OnCopyDone(copies[0].id, CopyOutcome::kFailed, std::vector<int32_t>{0});
  EXPECT_EQ(cache_.disk().cached(), Blocks(2));
  EXPECT_EQ(cache_.disk().free(), Blocks(4));
  Check({&p});
}

TEST_F(KvAdoptionTest, NothingIsWrittenWhileSpillingIsOff) {
  Prompt p({1, 2, 3, 4});
  cache_.set_spilling(false);
  Compute(&p, 2);
  EndCopies();
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_EQ(cache_.spills_pending(), Blocks(0));
  cache_.set_spilling(true);
  EXPECT_EQ(cache_.spills_pending(), Blocks(2));
  EXPECT_THAT(Take(), SizeIs(1)) << "what waited is written";
}

// ---- Blocks found in a store that others write to --------------------------------------------

TEST_F(KvAdoptionTest, FoundBlocksGetSlotsAndAreStaged) {
  Prompt p({1, 2, 3, 4, 5, 6});
  const std::vector<KvCache::FoundBlock> placed = cache_.AdoptFound(p.path(), 0);
  ASSERT_THAT(placed, SizeIs(3));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(placed[i].block, i);
  Check({});
  EXPECT_EQ(Match(p).on_disk, Blocks(3));
  EXPECT_EQ(cache_.disk().cached(), Blocks(3));
  EXPECT_EQ(cache_.Stage(match_, Blocks(9), RequestId(1), CopyClass::kDemand), Blocks(3));
  const std::vector<Copy> copies = EndCopies();
  EXPECT_EQ(copies[0].blocks[1].source, placed[1].slot);
  EXPECT_EQ(Admit(&p, 3).from_disk, Blocks(3));
  Check({&p});
}

TEST_F(KvAdoptionTest, OfFoundBlocksThoseThatAreHereGetNoSlot) {
  Prompt p({1, 2, 3, 4});
  Compute(&p, 2);  // on the device
  EndCopies();
  const Prompt more({1, 2, 3, 4, 5, 6});
  const std::vector<KvCache::FoundBlock> placed = cache_.AdoptFound(more.path(), 2);
  ASSERT_THAT(placed, SizeIs(1));
  EXPECT_EQ(placed[0].block, 2u);
  EXPECT_THAT(cache_.AdoptFound(more.path(), 2), IsEmpty()) << "it has one now";
  EXPECT_THAT(cache_.AdoptFound(p.path(), 0), IsEmpty()) << "computed meanwhile";
  Check({&p});
}

TEST_F(KvAdoptionTest, WithoutWhatCameBeforeThemFoundBlocksAreOfNoUse) {
  const Prompt p({1, 2, 3, 4, 5, 6});
  EXPECT_THAT(cache_.AdoptFound(p.path(), 2), IsEmpty());
  Check({});
  EXPECT_EQ(cache_.index().size(), Blocks(0));
}

TEST_F(KvAdoptionTest, FoundBlocksTakeTheRoomOfOthersButNotOfTheirOwnPrompt) {
  cache_.AdoptFound(Prompt({21, 22, 23, 24}).path(), 0);
  Prompt p({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});  // 8 blocks, 6 slots
  const std::vector<KvCache::FoundBlock> placed = cache_.AdoptFound(p.path(), 0);
  ASSERT_THAT(placed, SizeIs(6));
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(placed[i].block, i);
  EXPECT_EQ(Match(p).on_disk, Blocks(6));
  EXPECT_EQ(cache_.counters().disk_evictions, Blocks(2));
  Check({});
}

TEST_F(KvAdoptionTest, WhoIsComputingAFoundBlockGoesOn) {
  Prompt p({1, 2, 3, 4});
  Admit(&p, 2);
  cache_.Claim(p.path(), Blocks(2), &p.lease);
  EXPECT_THAT(cache_.AdoptFound(p.path(), 0), SizeIs(2));
  Check({&p});
  Publish(&p);
  EndCopies();
  Check({&p});
  Release(&p);
  EndCopies();
  Check({});
}

}  // namespace
}  // namespace sluice::testing
