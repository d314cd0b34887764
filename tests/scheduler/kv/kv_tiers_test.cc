// The disk tier, what is evicted first, and the gates of stores and spills.
#include <set>

#include "tests/scheduler/kv/kv_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

const std::vector<TokenId> kDocument = {1, 2, 3, 4, 5, 6, 7, 8};  // 4 blocks

class KvDiskTest : public KvFixture {
 protected:
  static KvCacheOptions WithDisk() {
    KvCacheOptions options = Small();
    options.host_blocks = Blocks(4);
    options.disk_blocks = Blocks(12);
    return options;
  }
  explicit KvDiskTest(const KvCacheOptions& options = WithDisk()) : KvFixture(options) {}

  // Leaves the document on the disk only.
  void PutOnDisk() {
    PutOnHost(kDocument);
    EndCopies();  // the spill
    PutOnHost({31, 32, 33, 34, 35, 36, 37, 38});
    EndCopies();
    Prompt p(kDocument);
    ASSERT_EQ(Match(p).on_disk, Blocks(4));
  }
};

TEST_F(KvDiskTest, WhatWasStoredIsWrittenBehind) {
  Prompt p(kDocument);
  Compute(&p, 4);
  std::vector<Copy> copies = Take();
  ASSERT_THAT(copies, SizeIs(1));
  EXPECT_EQ(copies[0].direction, LinkDirection::kDeviceToHost);
  EXPECT_THAT(Take(), IsEmpty()) << "not before the store has ended";
  cache_.OnCopyDone(copies[0].id, true);
  copies = Take();
  ASSERT_THAT(copies, SizeIs(1));
  EXPECT_EQ(copies[0].direction, LinkDirection::kHostToDisk);
  EXPECT_EQ(copies[0].copy_class, CopyClass::kWriteBack);
  EXPECT_THAT(copies[0].blocks, SizeIs(4));
  EXPECT_EQ(cache_.host().in_transit(), Blocks(4)) << "not evicted while it is read";
  Check({&p});
  cache_.OnCopyDone(copies[0].id, true);
  EXPECT_EQ(cache_.disk().cached(), Blocks(4));
  Check({&p});
}

TEST_F(KvDiskTest, SpillsUnderWayAreBoundedAndGoOnLater) {
  KvCacheOptions options = WithDisk();
  options.max_spill_blocks = Blocks(3);
  KvCache cache(options);
  Prompt p(kDocument);
  cache.Match(p.path(), p.full(), &match_);
  cache.Admit(match_, Blocks(4), RequestId(1), &p.lease);
  cache.Grow(Blocks(4), &p.lease);
  cache.Publish(p.path(), Blocks(4), &p.lease);
  std::vector<size_t> sizes;
  for (int i = 0; i < 3; ++i) {
    std::vector<Copy> copies;
    cache.TakeCopies(&copies);
    for (const Copy& copy : copies) {
      sizes.push_back(copy.blocks.size());
      cache.OnCopyDone(copy.id, true);
    }
  }
  EXPECT_THAT(sizes, ::testing::ElementsAre(4, 3, 1));
}

// A codec refuses one block of four: the others are on the host, and go on to the disk.
TEST_F(KvDiskTest, AStoreThatFailsForSomeBlocksKeepsTheOthers) {
  Prompt p(kDocument);
  Compute(&p, 4);
  std::vector<Copy> copies = Take();
  ASSERT_THAT(copies, SizeIs(1));
  const std::vector<int32_t> failed = {2};
  cache_.OnCopyDone(copies[0].id, CopyOutcome::kFailed, failed);
  EXPECT_EQ(cache_.host().free(), Blocks(1));
  Check({&p});
  copies = Take();
  ASSERT_THAT(copies, SizeIs(1));
  EXPECT_EQ(copies[0].direction, LinkDirection::kHostToDisk);
  EXPECT_THAT(copies[0].blocks, SizeIs(3));
  cache_.OnCopyDone(copies[0].id, true);
  EXPECT_EQ(cache_.disk().cached(), Blocks(3));
  Release(&p);
  Check({});
}

TEST_F(KvDiskTest, AFailedSpillLeavesTheHostCopyAlone) {
  Prompt p(kDocument);
  Compute(&p, 4);
  EndCopies();
  EndCopies(/*ok=*/false);
  EXPECT_EQ(cache_.disk().free(), Blocks(12));
  EXPECT_EQ(cache_.host().cached(), Blocks(4));
  Check({&p});
}

TEST_F(KvDiskTest, BlocksOnDiskEndWhatIsUsableUntilTheyAreStaged) {
  PutOnDisk();
  Prompt p(kDocument);
  Match(p);
  EXPECT_EQ(match_.usable, Blocks(0));
  EXPECT_EQ(match_.pending, Blocks(0));
  EXPECT_EQ(cache_.Stage(match_, Blocks(3), RequestId(7), CopyClass::kDemand, 5), Blocks(3));
  Match(p);
  EXPECT_EQ(match_.on_disk, Blocks(4)) << "three of them on their way";
  EXPECT_EQ(match_.usable, Blocks(0));
  EXPECT_EQ(cache_.Stage(match_, Blocks(3), RequestId(7), CopyClass::kDemand), Blocks(1))
      << "only what is not on its way yet";
  const std::vector<Copy> copies = Take();
  ASSERT_THAT(copies, SizeIs(2));
  EXPECT_EQ(copies[0].direction, LinkDirection::kDiskToHost);
  EXPECT_EQ(copies[0].copy_class, CopyClass::kDemand);
  EXPECT_EQ(copies[0].request, RequestId(7));
  EXPECT_EQ(copies[0].rank, 5);
  Check({});
  const int64_t before = cache_.content_epoch();
  cache_.OnCopyDone(copies[0].id, true);
  EXPECT_NE(cache_.content_epoch(), before);
  Match(p);
  EXPECT_EQ(match_.usable, Blocks(3));
  EXPECT_EQ(match_.on_host, Blocks(3));
  cache_.OnCopyDone(copies[1].id, true);
  const KvAdmission admission = Admit(&p, 4);
  EXPECT_EQ(admission.host, Blocks(4));
  EXPECT_EQ(admission.from_disk, Blocks(4)) << "told once, to the one it was staged for";
  Check({&p});
  Release(&p);
  EndCopies();
  ClearDevice();
  EXPECT_EQ(Admit(&p, 4).from_disk, Blocks(0));
}

TEST_F(KvDiskTest, AFailedStagingDropsTheDiskCopyARevokedOneDoesNot) {
  for (const CopyOutcome outcome : {CopyOutcome::kRevoked, CopyOutcome::kFailed}) {
    PutOnDisk();
    Prompt p(kDocument);
    Match(p);
    cache_.Stage(match_, Blocks(2), RequestId(7), CopyClass::kPrefetch);
    for (const Copy& copy : Take()) cache_.OnCopyDone(copy.id, outcome);
    Check({});
    EXPECT_EQ(Match(p).on_disk, outcome == CopyOutcome::kRevoked ? Blocks(4) : Blocks(0));
  }
}

TEST_F(KvDiskTest, StagingEvictsFromTheHostButNothingOfItsOwnMatch) {
  PutOnDisk();
  Prompt head({1, 2, 3, 4});
  Match(head);
  cache_.Stage(match_, Blocks(2), RequestId(7), CopyClass::kPrefetch);
  EndCopies();
  Prompt all(kDocument);
  Match(all);
  ASSERT_EQ(match_.on_host, Blocks(2));
  EXPECT_EQ(cache_.Stage(match_, Blocks(9), RequestId(7), CopyClass::kPrefetch), Blocks(2));
  EndCopies();
  EXPECT_EQ(Match(all).on_host, Blocks(4));
  Prompt longer({1, 2, 3, 4, 5, 6, 7, 8, 9, 9});
  Match(longer);
  EXPECT_EQ(cache_.Stage(match_, Blocks(9), RequestId(7), CopyClass::kPrefetch), Blocks(0))
      << "nothing on the disk only";
  Check({});
}

TEST_F(KvDiskTest, TheDiskEvictsItsLeastRecentlyUsed) {
  PutOnHost(kDocument);
  EndCopies();
  PutOnHost({31, 32, 33, 34, 35, 36, 37, 38});
  EndCopies();
  PutOnHost({41, 42, 43, 44, 45, 46, 47, 48});
  EndCopies();
  EXPECT_EQ(cache_.disk().cached(), Blocks(12));
  Prompt p(kDocument);
  Match(p);
  ASSERT_EQ(cache_.Stage(match_, Blocks(4), RequestId(1), CopyClass::kDemand), Blocks(4));
  EndCopies();
  Admit(&p, 4);  // uses it
  EndCopies();
  Release(&p);
  PutOnHost({51, 52, 53, 54, 55, 56, 57, 58});
  EndCopies();
  EXPECT_EQ(cache_.counters().disk_evictions, Blocks(4));
  EXPECT_EQ(Match(p).on_disk, Blocks(4)) << "used since";
  EXPECT_THAT(Match(Prompt({31, 32, 33, 34, 35, 36, 37, 38})).nodes, IsEmpty());
  Check({});
}

// ---- Gates -----------------------------------------------------------------------------------

class KvGateTest : public KvFixture {
 protected:
  static KvCacheOptions Gated() {
    KvCacheOptions options = Small();
    options.min_hits_to_store = 2;
    return options;
  }
  KvGateTest() : KvFixture(Gated()) {}
};

TEST_F(KvGateTest, ABlockIsStoredWhenItIsSeenForTheSecondTime) {
  Prompt p(kDocument);
  Compute(&p, 4);
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_EQ(cache_.counters().stores_gated, 4);
  Release(&p);
  EXPECT_THAT(Take(), IsEmpty());
  Prompt same({1, 2, 3, 4});
  Admit(&same, 2);
  const std::vector<Copy> copies = Take();
  ASSERT_THAT(copies, SizeIs(1));
  EXPECT_THAT(copies[0].blocks, SizeIs(2)) << "only what was used again";
  Check({&same});
}

TEST_F(KvGateTest, SightingsOutliveTheBlock) {
  Prompt p(kDocument);
  Compute(&p, 4);
  Release(&p);
  ClearDevice();
  ASSERT_THAT(Match(p).nodes, IsEmpty());
  Compute(&p, 4);
  EXPECT_THAT(Take(), SizeIs(1));
}

TEST_F(KvGateTest, ASequenceThatReturnsIsStoredWhateverTheGateSays) {
  Prompt p(kDocument);
  Compute(&p, 4);
  EXPECT_TRUE(cache_.Release(Blocks(4), &p.lease, /*returns=*/true));
  const std::vector<Copy> copies = Take();
  ASSERT_THAT(copies, SizeIs(1));
  EXPECT_THAT(copies[0].blocks, SizeIs(4));
}

TEST_F(KvGateTest, TheGateCanBeShut) {
  cache_.set_min_hits_to_store(kNeverStore);
  for (int i = 0; i < 5; ++i) {
    Prompt p(kDocument);
    Compute(&p, 4);
    Release(&p);
    EXPECT_THAT(Take(), IsEmpty());
  }
}

TEST_F(KvGateTest, StoreReuseFallsWithUnusedEvictionsAndRisesWithUse) {
  cache_.set_min_hits_to_store(0);
  EXPECT_EQ(cache_.store_reuse(), 1);
  for (TokenId t = 100; t < 700; t += 10) PutOnHost({t, 1, 2, 3, 4, 5, 6, 7});
  const double unused = cache_.store_reuse();
  EXPECT_LT(unused, 0.9);
  for (TokenId t = 100; t < 400; t += 10) {
    PutOnHost({t, 1, 2, 3, 4, 5, 6, 7});
    Prompt p({t, 1, 2, 3, 4, 5, 6, 7});
    Admit(&p, 4);
    EndCopies();
    Release(&p);
    ClearDevice();
  }
  EXPECT_GT(cache_.store_reuse(), unused);
  EXPECT_EQ(cache_.counters().stores_reused, Blocks(30 * 4));
}

// ---- Worth -----------------------------------------------------------------------------------

class KvValueTest : public KvFixture {
 protected:
  static KvCacheOptions Valued() {
    KvCacheOptions options = Small();
    options.host_blocks = Blocks(4);
    options.eviction = EvictionOrder::kValue;
    return options;
  }
  KvValueTest() : KvFixture(Valued()) {}
};

// What is stored first of a prefix is its front: evicting that for its copy would leave a hole.
TEST_F(KvValueTest, OnTheDeviceACopyOnTheHostChangesNothing) {
  Prompt stored({1, 2, 3, 4});
  Compute(&stored, 2);
  EndCopies();
  Prompt lost({11, 12, 13, 14});
  Compute(&lost, 2);
  EndCopies(/*ok=*/false);  // no host copy
  cache_.set_min_hits_to_store(kNeverStore);
  Release(&lost);
  Release(&stored);  // used later
  Prompt filler({21, 22});
  Admit(&filler, 6);
  cache_.Grow(Blocks(6), &filler.lease);
  EXPECT_EQ(Match(lost).on_device, Blocks(0));
  EXPECT_EQ(Match(stored).on_device, Blocks(2));
  Check({&filler});
}

TEST_F(KvValueTest, TheHostFirstEvictsWhatWasSeenOnlyOnce) {
  PutOnHost({1, 2, 3, 4});
  Prompt again({1, 2, 3, 4});
  Admit(&again, 2);
  EndCopies();
  Release(&again);
  PutOnHost({11, 12, 13, 14});  // later, but never used
  PutOnHost({21, 22, 23, 24});
  EXPECT_EQ(Match(again).on_host, Blocks(2));
  EXPECT_THAT(Match(Prompt({11, 12, 13, 14})).nodes, IsEmpty());
  Check({});
}

}  // namespace
}  // namespace sluice::testing
