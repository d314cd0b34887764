// How an admission uses what is cached: in part, around a gap, in place; and claims.
#include "tests/scheduler/kv/kv_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using KvPlansTest = KvFixture;
const std::vector<TokenId> kDocument = {1, 2, 3, 4, 5, 6, 7, 8};  // 4 blocks

// ---- In part ---------------------------------------------------------------------------------

TEST_F(KvPlansTest, AMatchCountsWhereBlocksAre) {
  PutOnHost(kDocument);
  Prompt head({1, 2, 3, 4});
  Admit(&head, 2);  // loads two blocks
  Prompt all(kDocument);
  Match(all);
  EXPECT_EQ(match_.on_host, Blocks(4)) << "two of them on their way to the device";
  EXPECT_EQ(match_.on_device, Blocks(0));
  EXPECT_EQ(match_.host_only, Blocks(2));
  EXPECT_EQ(match_.shared, Blocks(2));
  EndCopies();
  Match(all);
  EXPECT_EQ(match_.on_device, Blocks(2));
  EXPECT_EQ(match_.on_host, Blocks(2));
  Check({&head});
}

TEST_F(KvPlansTest, LessIsUsedIfSoChosenAndTheRestIsComputedPrivately) {
  PutOnHost(kDocument);
  Prompt p(kDocument);
  KvUse use;
  use.use = Blocks(1);
  const KvAdmission admission = Admit(&p, 4, use);
  EXPECT_EQ(admission.host, Blocks(1));
  EXPECT_EQ(admission.loaded, Blocks(1));
  EXPECT_EQ(p.lease.published, Blocks(1));
  EXPECT_EQ(p.lease.reserved, Blocks(3));
  EndCopies();
  p.lease.loads.clear();
  Publish(&p);
  EXPECT_THAT(Take(), IsEmpty()) << "the host has all of it";
  Check({&p});
  Release(&p);
  EXPECT_EQ(Match(p).on_device, Blocks(4));
}

TEST_F(KvPlansTest, NeedCountsOnlyWhatIsUsed) {
  Prompt a(kDocument);
  Compute(&a, 4);
  EndCopies();
  Prompt b(kDocument);
  Match(b);
  KvUse use;
  EXPECT_EQ(cache_.Need(match_, Blocks(6), use), Blocks(2)) << "four are shared";
  use.use = Blocks(1);
  EXPECT_EQ(cache_.Need(match_, Blocks(6), use), Blocks(5));
  EXPECT_FALSE(cache_.Fits(match_, Blocks(6), use));
  Check({&a});
}

// ---- The gap of a split ----------------------------------------------------------------------

TEST_F(KvPlansTest, AGapIsComputedWhileWhatFollowsIsLoaded) {
  PutOnHost(kDocument);
  Prompt p(kDocument);
  KvUse use;
  use.recompute = Blocks(2);
  const KvAdmission admission = Admit(&p, 5, use);
  EXPECT_EQ(admission.gap, Blocks(2));
  EXPECT_EQ(admission.host, Blocks(2));
  EXPECT_EQ(p.lease.gap_begin, Blocks(0));
  EXPECT_EQ(p.lease.gap_end, Blocks(2));
  EXPECT_EQ(p.lease.published, Blocks(4));
  EXPECT_THAT(p.lease.blocks, SizeIs(4)) << "dense, the gap included";
  const std::vector<Copy> copies = Take();
  ASSERT_THAT(copies, SizeIs(1));
  ASSERT_THAT(copies[0].blocks, SizeIs(2));
  EXPECT_EQ(copies[0].blocks[0].target, p.lease.blocks[2]);
  Check({&p});

  cache_.PublishGap(Blocks(1), &p.lease);
  Prompt other(kDocument);
  EXPECT_EQ(Match(other).on_device, Blocks(1)) << "shown while the load is still under way";
  cache_.OnCopyDone(copies[0].id, true);
  p.lease.loads.clear();
  cache_.Publish(p.path(), Blocks(4), &p.lease);
  EXPECT_EQ(p.lease.gap_published, Blocks(2)) << "the rest of the gap goes with the whole";
  EXPECT_EQ(Match(other).on_device, Blocks(4));
  Check({&p});
  Release(&p);
  Check({});
}

TEST_F(KvPlansTest, AGapEndsAtTheNextBlockOnTheDevice) {
  Prompt p(kDocument);
  Compute(&p, 4);
  EndCopies();
  Release(&p);
  // Evict the last block, bring it to the end of the list again, evict the third one …
  PutOnHost(kDocument);
  Prompt head({1, 2});
  Admit(&head, 1);
  EndCopies();
  head.lease.loads.clear();
  Prompt all(kDocument);
  KvUse use;
  use.recompute = Blocks(2);
  Admit(&all, 4, use);
  EXPECT_EQ(all.lease.gap_begin, Blocks(1)) << "the first block is on the device";
  EXPECT_EQ(all.lease.gap_end, Blocks(3));
  EXPECT_THAT(all.lease.gap_loads, IsEmpty());
  Check({&head, &all});
}

TEST_F(KvPlansTest, AGapUpToTheEndIsSimplyLessUse) {
  PutOnHost(kDocument);
  Prompt p(kDocument);
  KvUse use;
  use.recompute = Blocks(9);
  const KvAdmission admission = Admit(&p, 4, use);
  EXPECT_EQ(admission.gap, Blocks(0));
  EXPECT_EQ(admission.host, Blocks(0));
  EXPECT_EQ(p.lease.published, Blocks(0));
  EXPECT_THAT(Take(), IsEmpty());
  Check({&p});
}

TEST_F(KvPlansTest, AGapIsNotShownWhileALoadFillsBlocksBeforeIt) {
  PutOnHost(kDocument);
  Prompt head({1, 2});
  Admit(&head, 1);
  const std::vector<Copy> first = Take();
  ASSERT_THAT(first, SizeIs(1));
  Prompt all(kDocument);
  KvUse use;
  use.recompute = Blocks(1);
  Admit(&all, 4, use);  // joins the load of block 0; gap is block 1
  EXPECT_THAT(all.lease.gap_loads, ElementsAre(first[0].id));
  cache_.PublishGap(Blocks(2), &all.lease);
  EXPECT_EQ(all.lease.gap_published, Blocks(1)) << "not yet";
  cache_.OnCopyDone(first[0].id, true);
  cache_.PublishGap(Blocks(2), &all.lease);
  EXPECT_EQ(all.lease.gap_published, Blocks(2));
  Check({&head, &all});
}

// ---- In place --------------------------------------------------------------------------------

TEST_F(KvPlansTest, InPlaceTakesNoDeviceBlocksAndPinsTheHostBlocks) {
  PutOnHost(kDocument);
  Prompt p({1, 2, 3, 4, 5, 6, 7, 8, 9, 9});
  KvUse use;
  use.in_place = true;
  Match(p);
  EXPECT_EQ(cache_.Need(match_, Blocks(7), use), Blocks(3));
  const KvAdmission admission = Admit(&p, 7, use);
  EXPECT_EQ(admission.in_place, Blocks(4));
  EXPECT_EQ(admission.host, Blocks(4));
  EXPECT_EQ(admission.loaded, Blocks(0));
  EXPECT_THAT(p.lease.host_blocks, SizeIs(4));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_FALSE(p.lease.blocks[i].valid());
    EXPECT_EQ(p.lease.host_blocks[i], cache_.index().node(p.lease.nodes[i]).host);
  }
  EXPECT_EQ(cache_.host().referenced(), Blocks(4));
  EXPECT_THAT(Take(), IsEmpty());
  Publish(&p);
  Check({&p});
  Release(&p);
  EXPECT_EQ(cache_.host().referenced(), Blocks(0));
  Check({});
}

TEST_F(KvPlansTest, ABlockOnTheDeviceIsUsedThereEvenInPlace) {
  PutOnHost(kDocument);
  Prompt head({1, 2});
  Admit(&head, 1);
  Prompt p(kDocument);
  KvUse use;
  use.in_place = true;
  Admit(&p, 4, use);
  EXPECT_EQ(p.lease.blocks[0], head.lease.blocks[0]);
  EXPECT_FALSE(p.lease.host_blocks[0].valid());
  EXPECT_TRUE(p.lease.host_blocks[1].valid());
  EXPECT_EQ(p.lease.loads, head.lease.loads) << "it waits for that block";
  Check({&head, &p});
}

TEST_F(KvPlansTest, ABlockReadInPlaceIsNotEvictedFromTheHost) {
  PutOnHost(kDocument);
  Prompt p(kDocument);
  KvUse use;
  use.in_place = true;
  Admit(&p, 4, use);
  Prompt other({11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22});
  Compute(&other, 6);  // six stores, four free host blocks
  EXPECT_EQ(cache_.counters().stores, 4 + 4);
  EXPECT_EQ(cache_.counters().stores_skipped, 2);
  EXPECT_EQ(cache_.counters().host_evictions, Blocks(0));
  Check({&p, &other});
}

// ---- Claims ----------------------------------------------------------------------------------

TEST_F(KvPlansTest, WhatASequenceIsComputingIsPendingForOthers) {
  Prompt a(kDocument);
  Admit(&a, 4);
  cache_.Claim(a.path(), a.full(), &a.lease);
  Prompt b(kDocument);
  Match(b);
  EXPECT_THAT(match_.nodes, IsEmpty());
  EXPECT_EQ(match_.pending, Blocks(4));
  cache_.Grow(Blocks(4), &a.lease);
  cache_.Publish(a.path(), Blocks(1), &a.lease);
  Match(b);
  EXPECT_EQ(match_.on_device, Blocks(1));
  EXPECT_EQ(match_.pending, Blocks(3));
  Check({&a});
  Release(&a);
  EXPECT_EQ(Match(b).pending, Blocks(0)) << "nobody computes the rest any more";
  EXPECT_EQ(cache_.index().size(), Blocks(1));
  Check({});
}

TEST_F(KvPlansTest, TwoMayClaimTheSameBlockAndOneOfThemMayFail) {
  Prompt a(kDocument);
  Prompt b(kDocument);
  for (Prompt* p : {&a, &b}) {
    Admit(p, 4);
    cache_.Claim(p->path(), p->full(), &p->lease);
  }
  Check({&a, &b});
  Release(&a);
  Prompt c(kDocument);
  EXPECT_EQ(Match(c).pending, Blocks(4));
  Publish(&b);
  EXPECT_EQ(Match(c).on_device, Blocks(4));
  Check({&b});
}

TEST_F(KvPlansTest, PendingEndsWhereNobodyComputes) {
  Prompt a({1, 2, 3, 4});
  Admit(&a, 2);
  cache_.Claim(a.path(), a.full(), &a.lease);
  Prompt longer(kDocument);
  EXPECT_EQ(Match(longer).pending, Blocks(2));
  Prompt fork({1, 2, 9, 9});
  EXPECT_EQ(Match(fork).pending, Blocks(1));
  Check({&a});
}

TEST_F(KvPlansTest, TheContentEpochTellsWhenWaitingPaysOffOrIsInVain) {
  Prompt a(kDocument);
  Admit(&a, 4);
  cache_.Claim(a.path(), a.full(), &a.lease);
  int64_t before = cache_.content_epoch();
  cache_.Grow(Blocks(4), &a.lease);
  EXPECT_EQ(cache_.content_epoch(), before);
  cache_.Publish(a.path(), Blocks(2), &a.lease);
  EXPECT_NE(cache_.content_epoch(), std::exchange(before, cache_.content_epoch()));
  Release(&a);
  EXPECT_NE(cache_.content_epoch(), before);
}

}  // namespace
}  // namespace sluice::testing
