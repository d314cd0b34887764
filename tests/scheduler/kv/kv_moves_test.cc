// Loads made ahead of need, and loads nobody needs any more.
#include "tests/scheduler/kv/kv_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using KvMovesTest = KvFixture;
const std::vector<TokenId> kDocument = {1, 2, 3, 4, 5, 6, 7, 8};  // 4 blocks

// ---- Prefetch --------------------------------------------------------------------------------

TEST_F(KvMovesTest, APrefetchBringsLeadingBlocksToTheDevice) {
  PutOnHost(kDocument);
  Prompt p(kDocument);
  Match(p);
  EXPECT_EQ(cache_.Prefetch(match_, Blocks(3), RequestId(7), 9), Blocks(3));
  const std::vector<Copy> copies = Take();
  ASSERT_THAT(copies, SizeIs(1));
  EXPECT_EQ(copies[0].copy_class, CopyClass::kPrefetch);
  EXPECT_EQ(copies[0].direction, LinkDirection::kHostToDevice);
  EXPECT_EQ(copies[0].request, RequestId(7));
  EXPECT_EQ(copies[0].rank, 9);
  Check({});
  cache_.OnCopyDone(copies[0].id, true);
  EXPECT_EQ(cache_.device().cached(), Blocks(3));
  EXPECT_EQ(Match(p).on_device, Blocks(3));
  Admit(&p, 4);
  EXPECT_EQ(cache_.counters().prefetches_used, Blocks(3));
  Check({&p});
}

TEST_F(KvMovesTest, WhoIsAdmittedMeanwhileJoinsThePrefetch) {
  PutOnHost(kDocument);
  Prompt p(kDocument);
  Match(p);
  cache_.Prefetch(match_, Blocks(4), RequestId(7));
  const std::vector<Copy> copies = Take();
  const KvAdmission admission = Admit(&p, 4);
  EXPECT_FALSE(admission.load.valid());
  EXPECT_EQ(admission.host, Blocks(4));
  EXPECT_THAT(p.lease.loads, ElementsAre(copies[0].id));
  Check({&p});
}

TEST_F(KvMovesTest, APrefetchTakesNoPromisedRoomAndNothingOfItsOwnMatch) {
  PutOnHost(kDocument);
  Prompt head({1, 2, 3, 4});
  Admit(&head, 2);
  EndCopies();
  Release(&head);  // two cached on the device, two on the host only
  Prompt running({11, 12});
  Admit(&running, 5);
  EXPECT_EQ(cache_.available(), Blocks(3));
  Prompt p(kDocument);
  Match(p);
  ASSERT_EQ(match_.host_only, Blocks(2));
  EXPECT_EQ(cache_.Prefetch(match_, Blocks(9), RequestId(7)), Blocks(1))
      << "the other two of the room are its own";
  EXPECT_EQ(Match(p).on_device, Blocks(2));
  cache_.Grow(Blocks(5), &running.lease);
  EXPECT_EQ(Match(p).on_device, Blocks(2));
  Check({&running});
}

TEST_F(KvMovesTest, PrefetchesUnderWayAreBounded) {
  KvCacheOptions options = Small();
  options.max_prefetch_blocks = Blocks(1);
  KvCache cache(options);
  Prompt p(kDocument);
  cache.Admit(match_, Blocks(4), RequestId(1), &p.lease);
  cache.Grow(Blocks(4), &p.lease);
  cache.Publish(p.path(), Blocks(4), &p.lease);
  std::vector<Copy> copies;
  cache.TakeCopies(&copies);
  cache.OnCopyDone(copies[0].id, true);
  cache.Release(Blocks(4), &p.lease);
  KvLease filler;
  cache.Admit(KvMatch(), Blocks(8), RequestId(1), &filler);
  cache.Grow(Blocks(8), &filler);
  cache.Release(Blocks(0), &filler);
  cache.Match(p.path(), Blocks(4), &match_);
  EXPECT_EQ(cache.Prefetch(match_, Blocks(4), RequestId(1)), Blocks(1));
  cache.Match(p.path(), Blocks(4), &match_);
  EXPECT_EQ(cache.Prefetch(match_, Blocks(4), RequestId(1)), Blocks(0));
}

// ---- Revocation ------------------------------------------------------------------------------

TEST_F(KvMovesTest, ALoadNobodyElseUsesIsRevokedWithItsSequence) {
  PutOnHost(kDocument);
  Prompt p(kDocument);
  Admit(&p, 4);
  const std::vector<Copy> copies = Take();
  cache_.Revoke(Blocks(0), &p.lease);
  EXPECT_THAT(Revoked(), ElementsAre(copies[0].id));
  EXPECT_THAT(Revoked(), IsEmpty()) << "told once";
  EXPECT_EQ(cache_.device().in_transit(), Blocks(4)) << "until it ends";
  EXPECT_EQ(cache_.available(), Blocks(4));
  Check({});
  const int64_t room = cache_.room_epoch();
  const KvCache::CopyEnd end = cache_.OnCopyDone(copies[0].id, CopyOutcome::kRevoked);
  EXPECT_TRUE(end.revoked);
  EXPECT_FALSE(end.ok);
  EXPECT_NE(cache_.room_epoch(), room);
  EXPECT_EQ(cache_.device().free(), Blocks(8));
  EXPECT_EQ(Match(p).on_host, Blocks(4)) << "the host copies are fine";
  Check({});
}

TEST_F(KvMovesTest, ALoadThatAnotherSequenceListsGoesOn) {
  PutOnHost(kDocument);
  Prompt a(kDocument);
  Prompt b({1, 2, 3, 4});
  Admit(&a, 4);
  Admit(&b, 2);
  const std::vector<Copy> copies = Take();
  cache_.Revoke(Blocks(0), &a.lease);
  EXPECT_THAT(Revoked(), IsEmpty());
  Check({&b});
  cache_.Revoke(Blocks(0), &b.lease);
  EXPECT_THAT(Revoked(), ElementsAre(copies[0].id));
  Check({});
}

TEST_F(KvMovesTest, ALoadThatWasNotGivenOutYetIsTakenBackAtOnce) {
  PutOnHost(kDocument);
  Prompt p(kDocument);
  Admit(&p, 4);
  cache_.Revoke(Blocks(0), &p.lease);
  EXPECT_THAT(Revoked(), IsEmpty());
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_EQ(cache_.device().free(), Blocks(8));
  EXPECT_EQ(Match(p).on_host, Blocks(4));
  Check({});
}

TEST_F(KvMovesTest, NobodyJoinsARevokedLoadButMayLoadAnew) {
  PutOnHost(kDocument);
  Prompt a(kDocument);
  Admit(&a, 4);
  const std::vector<Copy> first = Take();
  cache_.Revoke(Blocks(0), &a.lease);
  Prompt b(kDocument);
  Admit(&b, 4);
  const std::vector<Copy> second = Take();
  ASSERT_THAT(second, SizeIs(1));
  EXPECT_THAT(b.lease.loads, ElementsAre(second[0].id));
  Check({&b});
  cache_.OnCopyDone(first[0].id, CopyOutcome::kOk);  // too late
  EXPECT_EQ(cache_.device().free(), Blocks(4)) << "somebody loads it anew already";
  cache_.OnCopyDone(second[0].id, CopyOutcome::kOk);
  EXPECT_EQ(Match(b).on_device, Blocks(4));
  Check({&b});
}

TEST_F(KvMovesTest, ARevokedLoadThatArrivesNeverthelessIsASuccess) {
  PutOnHost(kDocument);
  Prompt p(kDocument);
  Admit(&p, 4);
  const std::vector<Copy> copies = Take();
  cache_.Revoke(Blocks(0), &p.lease);
  const KvCache::CopyEnd end = cache_.OnCopyDone(copies[0].id, CopyOutcome::kOk);
  EXPECT_TRUE(end.ok && end.revoked);
  EXPECT_THAT(Revoked(), IsEmpty()) << "too late to tell";
  EXPECT_EQ(Match(p).on_device, Blocks(4));
  EXPECT_EQ(cache_.device().cached(), Blocks(4));
  Check({});
}

TEST_F(KvMovesTest, TwoLoadsFromOneHostBlockMayEndAnyWay) {
  for (const CopyOutcome first : {CopyOutcome::kFailed, CopyOutcome::kRevoked}) {
    for (const CopyOutcome second : {CopyOutcome::kFailed, CopyOutcome::kOk}) {
      for (const bool in_order : {true, false}) {
        PutOnHost(kDocument);
        Prompt a(kDocument);
        Admit(&a, 4);
        const CopyId one = Take()[0].id;
        cache_.Revoke(Blocks(0), &a.lease);
        Admit(&a, 4);
        const CopyId two = Take()[0].id;
        if (in_order) cache_.OnCopyDone(one, first);
        cache_.OnCopyDone(two, second);
        Check({&a});
        Release(&a);
        if (!in_order) cache_.OnCopyDone(one, first);
        EndCopies();
        EXPECT_EQ(Match(a).on_device, second == CopyOutcome::kOk ? Blocks(4) : Blocks(0));
        EXPECT_EQ(cache_.device().in_transit() + cache_.host().in_transit(), Blocks(0));
        Check({});
      }
    }
  }
}

TEST_F(KvMovesTest, UnusedLoadsCanBeRevokedAllTogether) {
  PutOnHost(kDocument);
  Prompt ahead({1, 2, 3, 4});
  Match(ahead);
  cache_.Prefetch(match_, Blocks(2), RequestId(7));
  Prompt p(kDocument);
  Prompt q({1, 2});
  Admit(&q, 1);                                 // joins the prefetch
  EXPECT_EQ(cache_.RevokeUnused(), Blocks(0));  // q needs it
  Release(&q);
  Match(p);
  const KvAdmission admission = Admit(&p, 4);
  const std::vector<Copy> copies = Take();
  ASSERT_THAT(copies, SizeIs(2));
  Release(&p);  // as if cancelled: its loads go on
  EXPECT_EQ(cache_.RevokeUnused(), Blocks(4));
  EXPECT_THAT(Revoked(), ElementsAre(copies[0].id, admission.load));
  Check({});
}

}  // namespace
}  // namespace sluice::testing
