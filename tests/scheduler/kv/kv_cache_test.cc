// The basics: reservation, sharing, stores, loads, victims.
#include <array>

#include "tests/scheduler/kv/kv_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::Optional;
using ::testing::SizeIs;

using KvCacheTest = KvFixture;

TEST_F(KvCacheTest, ReservationKeepsRoomWithoutEvicting) {
  Prompt a({1, 2, 3, 4, 5, 6, 7, 8});
  Compute(&a, 4);
  EndCopies();
  Release(&a);
  Prompt b({9, 9});
  Admit(&b, 6);
  EXPECT_EQ(cache_.reserved(), Blocks(6));
  EXPECT_EQ(cache_.device().cached(), Blocks(4)) << "the promise evicts nothing";
  Prompt c({8, 8});
  cache_.Match(c.path(), c.full(), &match_);
  EXPECT_TRUE(cache_.Fits(match_, Blocks(2)));
  EXPECT_FALSE(cache_.Fits(match_, Blocks(3)));
  cache_.Grow(Blocks(6), &b.lease);
  EXPECT_EQ(cache_.device().cached(), Blocks(2));
  Check({&b});
}

TEST_F(KvCacheTest, EvictionTakesTheEndOfAPrefixFirst) {
  Prompt a({1, 2, 3, 4, 5, 6, 7, 8});
  Compute(&a, 4);
  EndCopies(/*ok=*/false);
  Release(&a);
  EndCopies(/*ok=*/false);
  Prompt b({9, 9});
  Admit(&b, 6);
  cache_.Grow(Blocks(6), &b.lease);
  cache_.Match(a.path(), a.full(), &match_);
  EXPECT_THAT(match_.nodes, SizeIs(2));
  EXPECT_EQ(cache_.counters().device_evictions, Blocks(2));
  Check({&b});
}

TEST_F(KvCacheTest, HitsOnEvictableBlocksTakeRoomHitsOnUsedOnesDoNot) {
  Prompt a({1, 2, 3, 4, 5, 6, 7, 8});
  Compute(&a, 4);
  EndCopies();
  Prompt same = Prompt(a.tokens);
  cache_.Match(same.path(), same.full(), &match_);
  EXPECT_EQ(match_.shared, Blocks(4));
  EXPECT_TRUE(cache_.Fits(match_, Blocks(8)));
  Release(&a);
  cache_.Match(same.path(), same.full(), &match_);
  EXPECT_EQ(match_.shared, Blocks(0));
  EXPECT_TRUE(cache_.Fits(match_, Blocks(8)));
  Prompt other({9, 9});
  Admit(&other, 2);
  cache_.Match(same.path(), same.full(), &match_);
  EXPECT_FALSE(cache_.Fits(match_, Blocks(7)));
  Check({&other});
}

TEST_F(KvCacheTest, DuplicateComputationStaysPrivate) {
  Prompt a({1, 2, 3, 4});
  Prompt b(a.tokens);
  Admit(&a, 2);
  Admit(&b, 2);
  for (Prompt* p : {&a, &b}) {
    cache_.Grow(Blocks(2), &p->lease);
    cache_.Publish(p->path(), p->full(), &p->lease);
  }
  Check({&a, &b});
  EXPECT_NE(a.lease.blocks, b.lease.blocks);
  EXPECT_THAT(EndCopies(), SizeIs(1));
  Release(&b);
  EXPECT_EQ(cache_.device().free(), Blocks(6)) << "the second copy is simply freed";
  Release(&a);
  EXPECT_EQ(cache_.device().cached(), Blocks(2));
  Check({});
}

TEST_F(KvCacheTest, APrivateDuplicateOutlivesTheNodesItFollows) {
  Prompt a({1, 2});
  Prompt b({1, 2, 3, 4});
  Admit(&a, 1);
  Admit(&b, 4);
  for (Prompt* p : {&a, &b}) {
    cache_.Grow(Blocks(1), &p->lease);
    cache_.Publish(p->path(), Blocks(1), &p->lease);
  }
  EndCopies(/*ok=*/false);
  Release(&a);
  EndCopies(/*ok=*/false);
  Prompt filler({9, 9});
  Admit(&filler, 4);
  cache_.Grow(Blocks(4), &filler.lease);  // evicts a's block: its node is a pinned ghost now
  cache_.Grow(Blocks(4), &b.lease);
  cache_.Publish(b.path(), Blocks(2), &b.lease);
  Check({&b, &filler});
  cache_.Match(b.path(), b.full(), &match_);
  EXPECT_THAT(match_.nodes, IsEmpty()) << "block 0 is nowhere";
  Release(&b);
  Release(&filler);
  Check({});
}

TEST_F(KvCacheTest, AStoreNeverBeginsOnAnEvictableBlock) {
  // a and b compute the same; only b's publication finds host room, when a's block is unused.
  KvCache cache({Tokens(2), Blocks(4), Blocks(1), Blocks(64), true});
  Prompt other({7, 7});
  Prompt a({1, 2});
  Prompt b({1, 2});
  for (Prompt* p : {&other, &a, &b}) {
    cache.Match(p->path(), p->full(), &match_);
    cache.Admit(match_, Blocks(1), RequestId(1), &p->lease);
    cache.Grow(Blocks(1), &p->lease);
  }
  cache.Publish(other.path(), Blocks(1), &other.lease);  // its store takes the only host block
  cache.Publish(a.path(), Blocks(1), &a.lease);
  cache.Release(Blocks(1), &a.lease);
  EXPECT_EQ(cache.device().cached(), Blocks(1));
  std::vector<Copy> copies;
  cache.TakeCopies(&copies);
  ASSERT_THAT(copies, SizeIs(1));
  cache.OnCopyDone(copies[0].id, true);
  cache.Publish(b.path(), Blocks(1), &b.lease);
  EXPECT_EQ(cache.device().cached(), Blocks(1));
  EXPECT_EQ(cache.device().in_transit(), Blocks(0));
  const std::array<const KvLease*, 2> leases = {&other.lease, &b.lease};
  EXPECT_THAT(cache.CheckInvariants(leases), IsOk());
}

TEST_F(KvCacheTest, AComputedBlockBecomesTheDeviceCopyOfAHostOnlyNode) {
  Prompt a({1, 2, 3, 4});
  Compute(&a, 2);
  EndCopies();
  Release(&a);
  Prompt filler({9, 9});
  Admit(&filler, 8);
  cache_.Grow(Blocks(8), &filler.lease);
  Release(&filler);
  // Admitted without a match, as if planned before the node existed.
  Prompt b(a.tokens);
  cache_.Admit(KvMatch(), Blocks(2), RequestId(1), &b.lease);
  cache_.Grow(Blocks(2), &b.lease);
  cache_.Publish(b.path(), b.full(), &b.lease);
  std::vector<Copy> copies;
  cache_.TakeCopies(&copies);
  EXPECT_THAT(copies, IsEmpty()) << "the host has it already";
  Release(&b);
  cache_.Match(a.path(), a.full(), &match_);
  EXPECT_THAT(match_.nodes, SizeIs(2));
  EXPECT_EQ(cache_.device().cached(), Blocks(2));
  Check({});
}

TEST_F(KvCacheTest, HostBlocksBeingReadAreNotEvicted) {
  KvCache cache({Tokens(2), Blocks(4), Blocks(2), Blocks(64), true});
  Prompt a({1, 2, 3, 4});
  Prompt b({5, 6, 7, 8});
  const auto run = [&](Prompt* p, int64_t total) {
    cache.Match(p->path(), p->full(), &match_);
    const KvAdmission admission = cache.Admit(match_, Blocks(total), RequestId(1), &p->lease);
    if (admission.load.valid()) return admission;
    cache.Grow(p->full(), &p->lease);
    cache.Publish(p->path(), p->full(), &p->lease);
    return admission;
  };
  const auto end_copies = [&] {
    std::vector<Copy> copies;
    cache.TakeCopies(&copies);
    for (const Copy& copy : copies) cache.OnCopyDone(copy.id, true);
  };
  run(&a, 2);
  end_copies();
  cache.Release(a.full(), &a.lease);
  Prompt filler({9, 9});
  cache.Admit(KvMatch(), Blocks(4), RequestId(1), &filler.lease);
  cache.Grow(Blocks(4), &filler.lease);
  cache.Release(Blocks(0), &filler.lease);
  EXPECT_EQ(run(&a, 2).loaded, Blocks(2));
  run(&b, 2);  // its stores want host blocks, but both are being read
  EXPECT_EQ(cache.counters().stores_skipped, 2);
  EXPECT_EQ(cache.counters().host_evictions, Blocks(0));
  const std::array<const KvLease*, 2> leases = {&a.lease, &b.lease};
  EXPECT_THAT(cache.CheckInvariants(leases), IsOk());
}

TEST_F(KvCacheTest, VictimsAreCountedWithSharedBlocksOnlyOnce) {
  Prompt a({1, 2, 3, 4, 5, 6});
  Prompt b({1, 2, 3, 4, 7, 8});
  Compute(&a, 3);
  EndCopies();
  Compute(&b, 3);  // shares 2 of its 3
  EndCopies();
  const std::array<const KvLease*, 2> victims = {&b.lease, &a.lease};
  match_ = KvMatch();
  EXPECT_THAT(cache_.VictimsNeeded(match_, Blocks(4), victims), Optional(size_t{0}));
  EXPECT_THAT(cache_.VictimsNeeded(match_, Blocks(5), victims), Optional(size_t{1}));
  EXPECT_THAT(cache_.VictimsNeeded(match_, Blocks(6), victims), Optional(size_t{2}));
  EXPECT_THAT(cache_.VictimsNeeded(match_, Blocks(9), victims), std::nullopt);
  Check({&a, &b});
}

}  // namespace
}  // namespace sluice::testing
