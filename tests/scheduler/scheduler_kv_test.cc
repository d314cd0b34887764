// Where KV lives: prefix reuse, loads, stores, failures of both, preemption by swap.
#include <array>

#include "scheduler/scheduler.h"
#include "tests/scheduler/driver.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<TokenId> operator+(std::vector<TokenId> a, const std::vector<TokenId>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Leaves document 1 (40 tokens, 10 blocks) on the host and, having filled the device pool with
// other things since, not on the device.
void PutDocumentOnHost(SchedulerDriver* d, int64_t device_blocks) {
  d->Submit(901, Document(1, 40), 1);
  d->Drain();
  d->Submit(902, Document(2, static_cast<int>(device_blocks) * 4 - 1), 1);
  d->Drain();
}

TEST(SchedulerKvTest, PrefixIsSharedWhileItsFirstUserStillRuns) {
  SchedulerDriver d(SmallOptions(40));
  d.Submit(1, Document(1, 20), 30);
  d.Step();
  d.Submit(2, Document(1, 20) + Document(2, 5), 2);
  d.Plan();
  ASSERT_THAT(d.plan.sequences, SizeIs(2));
  EXPECT_EQ(d.plan.sequences[1].first, Tokens(20));
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(d.plan.sequences[0].blocks[i], d.plan.sequences[1].blocks[i]);
  }
  d.Commit();
  d.Drain();
  EXPECT_EQ(CachedOn(*d.FinishOf(2), Tier::kDevice), Tokens(20));
  EXPECT_EQ(d.FinishOf(2)->stats.computed, Tokens(5));
}

TEST(SchedulerKvTest, AtLeastOnePromptTokenIsComputed) {
  SchedulerDriver d(SmallOptions(40));
  d.Submit(1, Document(1, 20), 1);
  d.Drain();
  d.Submit(2, Document(1, 20), 1);
  d.Plan();
  EXPECT_EQ(d.plan.sequences[0].first, Tokens(16));
  EXPECT_EQ(d.plan.sequences[0].count, Tokens(4));
  d.Commit();
}

TEST(SchedulerKvTest, SaltsIsolate) {
  SchedulerDriver d(SmallOptions(40));
  d.Submit(1, Document(1, 20), 1);
  d.Drain();
  RequestSpec spec = d.Spec(2, Document(1, 20), 1);
  spec.cache_salt = 1;
  ASSERT_THAT(d.scheduler.Submit(spec, d.now), IsOk());
  d.Drain();
  EXPECT_EQ(d.FinishOf(2)->stats.computed, Tokens(20));
}

Hash128 SameHash(const Hash128&, std::span<const TokenId>) { return {1, 1}; }

TEST(SchedulerKvTest, HashCollisionCannotServeOtherTokensOrSalts) {
  SchedulerDriver d(SmallOptions(40), &SameHash);
  d.Submit(1, Document(1, 20), 1);
  d.Drain();
  d.Submit(2, Document(2, 20), 1);
  RequestSpec spec = d.Spec(3, Document(1, 20), 1);
  spec.cache_salt = 1;
  ASSERT_THAT(d.scheduler.Submit(spec, d.now), IsOk());
  d.Submit(4, Document(1, 20), 1);
  d.Drain();
  EXPECT_EQ(d.FinishOf(2)->stats.computed, Tokens(20));
  EXPECT_EQ(d.FinishOf(3)->stats.computed, Tokens(20));
  EXPECT_EQ(d.FinishOf(4)->stats.computed, Tokens(16)) << "the first block is served";
}

TEST(SchedulerKvTest, LoadsRunAheadWhileOthersHaveWork) {
  SchedulerDriver d(SmallOptions(30, 100));
  PutDocumentOnHost(&d, 30);
  d.Submit(1, Document(3, 3), 20);
  d.Step();
  d.EndCopies();
  d.Submit(2, Document(1, 40) + Document(4, 3), 2);
  d.Plan();
  ASSERT_THAT(d.plan.copies, SizeIs(1));
  const Copy load = d.plan.copies[0];
  EXPECT_EQ(load.direction, LinkDirection::kHostToDevice);
  EXPECT_EQ(load.copy_class, CopyClass::kDemand);
  EXPECT_EQ(load.request, RequestId(2));
  EXPECT_THAT(load.blocks, SizeIs(10));
  EXPECT_FALSE(d.InPlan(2));
  EXPECT_EQ(d.scheduler.stats().loading, 1);
  d.Commit();
  d.EndCopy(load.id);
  d.Plan();
  ASSERT_TRUE(d.InPlan(2));
  EXPECT_EQ(d.plan.sequences[1].first, Tokens(40));
  EXPECT_THAT(d.plan.sequences[1].loads, IsEmpty());
  d.Commit();
  d.Drain();
  const Event::Finish& finish = *d.FinishOf(2);
  EXPECT_EQ(CachedOn(finish, Tier::kHost), Tokens(40));
  EXPECT_EQ(finish.stats.computed, Tokens(3));
  EXPECT_EQ(finish.stats.plan, RequestPlan::kLoad);
  EXPECT_EQ(finish.stats.loaded, Bytes(640));
  EXPECT_EQ(finish.stats.load_busy, absl::Milliseconds(1));
  EXPECT_GT(d.Count(Decision::kWaitLoad), 0);
}

TEST(SchedulerKvTest, WithNothingElseToDoALoaderJoinsLayerByLayer) {
  SchedulerDriver d(SmallOptions(30, 100));
  PutDocumentOnHost(&d, 30);
  d.Submit(2, Document(1, 40) + Document(4, 3), 2);
  d.Plan();
  ASSERT_TRUE(d.InPlan(2));
  ASSERT_THAT(d.plan.copies, SizeIs(1));
  EXPECT_THAT(d.plan.sequences[0].loads, ElementsAre(d.plan.copies[0].id));
  EXPECT_EQ(d.Count(Decision::kJoinLoad), 1);
  StepResult result = d.GoodResult();
  result.load_stall = absl::Milliseconds(4);
  result.sequences[0].load_stall = absl::Milliseconds(4);
  d.EndCopies();
  d.Commit(result);
  d.Drain();
  EXPECT_EQ(d.FinishOf(2)->stats.load_exposed, absl::Milliseconds(4));
  EXPECT_EQ(d.FinishOf(2)->stats.compute, absl::Milliseconds(16));
}

TEST(SchedulerKvTest, RequestsForBlocksBeingLoadedJoinOneCopyAndWakeTogether) {
  SchedulerDriver d(SmallOptions(120, 400));
  PutDocumentOnHost(&d, 120);
  d.Submit(1, Document(3, 3), 30);
  d.Step();
  d.EndCopies();
  for (int id = 10; id < 30; ++id) d.Submit(id, Document(1, 40) + Document(id, 3), 1);
  d.Plan();
  ASSERT_THAT(d.plan.copies, SizeIs(1)) << "one load for all of them";
  const CopyId load = d.plan.copies[0].id;
  EXPECT_EQ(d.scheduler.stats().loading, 20);
  d.Commit();
  d.EndCopy(load);
  d.Plan();
  EXPECT_THAT(d.plan.sequences, SizeIs(21));
  d.Commit();
  d.Drain();
}

TEST(SchedulerKvTest, FailedLoadIsRecomputedAndItsUsersKeepTheirPlace) {
  SchedulerDriver d(SmallOptions(40, 100));
  PutDocumentOnHost(&d, 40);
  d.Submit(1, Document(3, 3), 30);
  d.Step();
  d.EndCopies();
  d.Submit(2, Document(1, 40) + Document(4, 3), 2);
  d.Plan();
  ASSERT_THAT(d.plan.copies, SizeIs(1));
  const CopyId load = d.plan.copies[0].id;
  d.Commit();
  d.Submit(3, Document(5, 8), 30);
  d.EndCopy(load, absl::DataLossError("checksum"));
  d.Plan();
  ASSERT_TRUE(d.InPlan(2));
  EXPECT_EQ(d.plan.sequences[1].request, RequestId(2)) << "before 3, which came later";
  EXPECT_EQ(d.plan.sequences[1].first, Tokens(0));
  d.Commit();
  d.Drain();
  const Event::Finish& finish = *d.FinishOf(2);
  EXPECT_EQ(finish.reason, FinishReason::kLength);
  EXPECT_EQ(finish.stats.recomputed, Tokens(40));
  EXPECT_EQ(finish.stats.preemptions, 0);
  EXPECT_EQ(CachedOn(finish, Tier::kHost) + finish.stats.computed, Tokens(43));
}

TEST(SchedulerKvTest, LoadThatFailsUnderAStepCommitsNothing) {
  for (const bool copy_ends_first : {false, true}) {
    SCOPED_TRACE(copy_ends_first);
    SchedulerDriver d(SmallOptions(30, 100));
    PutDocumentOnHost(&d, 30);
    d.Submit(2, Document(1, 40) + Document(4, 3), 2);
    d.Plan();
    ASSERT_TRUE(d.InPlan(2));
    const CopyId load = d.plan.copies[0].id;
    StepResult result = d.GoodResult();
    result.sequences[0] = {};
    result.sequences[0].status = absl::DataLossError("checksum");
    if (copy_ends_first) d.EndCopy(load, absl::DataLossError("checksum"));
    d.Commit(result);
    EXPECT_EQ(d.FinishOf(2), nullptr);
    if (!copy_ends_first) {
      EXPECT_THAT(d.Plan().sequences, IsEmpty()) << "does not join the bad load again";
      d.EndCopy(load, absl::DataLossError("checksum"));
    }
    d.Plan();
    ASSERT_TRUE(d.InPlan(2));
    EXPECT_EQ(d.plan.sequences[0].first, Tokens(0));
    EXPECT_THAT(d.plan.sequences[0].loads, IsEmpty());
    d.Commit();
    d.Drain();
    EXPECT_THAT(d.TokensOf(2), ElementsAre(500, 501));
  }
}

TEST(SchedulerKvTest, CancelWhileLoadingKeepsTheTargetsUntilTheCopyEnds) {
  for (const bool ok : {true, false}) {
    SchedulerDriver d(SmallOptions(30, 100));
    PutDocumentOnHost(&d, 30);
    d.Submit(2, Document(1, 40) + Document(4, 3), 2);
    d.Plan();
    const CopyId load = d.plan.copies[0].id;
    d.Commit();
    d.scheduler.Cancel(RequestId(2), d.now);
    EXPECT_EQ(d.scheduler.stats().device.in_transit, Blocks(10));
    EXPECT_EQ(d.scheduler.stats().device.referenced, Blocks(0));
    d.EndCopy(load, ok ? absl::OkStatus() : absl::DataLossError("checksum"));
    EXPECT_EQ(d.scheduler.stats().device.in_transit, Blocks(0));
    d.Submit(3, Document(1, 40) + Document(4, 3), 1);
    d.Drain();
    EXPECT_EQ(CachedOn(*d.FinishOf(3), Tier::kDevice), Tokens(ok ? 40 : 0));
  }
}

TEST(SchedulerKvTest, BlockIsNotReusedBeforeItsStoreIsConfirmed) {
  SchedulerDriver d(SmallOptions(10, 100));
  d.Submit(1, Document(1, 36), 1);  // 9 full blocks
  d.Step();
  d.Plan();
  ASSERT_THAT(d.plan.copies, SizeIs(1));
  const Copy store = d.plan.copies[0];
  EXPECT_EQ(store.direction, LinkDirection::kDeviceToHost);
  EXPECT_EQ(store.copy_class, CopyClass::kWriteBack);
  EXPECT_THAT(store.blocks, SizeIs(9));
  d.Submit(2, Document(2, 36), 1);
  EXPECT_THAT(d.Plan().sequences, IsEmpty()) << "all but one block are being stored";
  d.EndCopy(store.id);
  EXPECT_THAT(d.Plan().sequences, SizeIs(1));
  d.Commit();
  d.Drain();
}

TEST(SchedulerKvTest, StoresUnderWayAreBounded) {
  SchedulerOptions options = SmallOptions(40, 100);
  options.max_store_blocks = Blocks(3);
  SchedulerDriver d(options);
  d.Submit(1, Document(1, 36), 1);
  d.Step();
  d.Plan();
  ASSERT_THAT(d.plan.copies, SizeIs(1));
  EXPECT_THAT(d.plan.copies[0].blocks, SizeIs(3));
  EXPECT_EQ(d.Count(Decision::kStore), 3);
  EXPECT_GT(d.Count(Decision::kStoreSkipped), 0);
}

TEST(SchedulerKvTest, FailedStoreLeavesNoHostCopy) {
  SchedulerDriver d(SmallOptions(10, 100));
  d.Submit(1, Document(1, 36), 1);
  d.Step();
  d.Plan();
  d.EndCopy(d.plan.copies[0].id, absl::UnavailableError("link down"));
  EXPECT_EQ(d.scheduler.stats().host.free, Blocks(100));
  EXPECT_EQ(d.scheduler.stats().device.cached, Blocks(9));
}

TEST(SchedulerKvTest, PreemptionBySwapResumesFromTheHost) {
  SchedulerDriver d(SmallOptions(12, 100));
  d.Submit(1, Document(1, 20), 20);  // 10 blocks
  for (int i = 0; i < 6; ++i) {
    d.Step();
    d.EndCopies();
  }
  d.Submit(2, Document(2, 40), 4, /*priority=*/1);  // 11 blocks
  d.Plan();
  EXPECT_EQ(d.Count(Decision::kPreemptSwap), 1);
  d.EndCopies();
  if (!d.plan.sequences.empty()) d.Commit();
  d.Drain();
  EXPECT_EQ(d.FinishOf(1)->stats.preemptions, 1);
  EXPECT_GT(d.FinishOf(1)->stats.loaded, Bytes(0));
  EXPECT_LT(d.FinishOf(1)->stats.recomputed, Tokens(4)) << "no more than a partial block";
  EXPECT_THAT(d.TokensOf(1), SizeIs(20));
}

// vLLM #57841: an unschedulable head, a parked loader and a small waiter must not wait for each
// other.
TEST(SchedulerKvTest, BigHeadParkedLoaderAndSmallWaiterDoNotBlockEachOther) {
  SchedulerDriver d(SmallOptions(100, 200));
  PutDocumentOnHost(&d, 100);
  d.Submit(1, Document(1, 40) + Document(4, 3), 2);  // loads 10 blocks
  d.Submit(2, Document(5, 395), 2);                  // needs all 100
  d.Submit(3, Document(6, 15), 2);                   // 5
  d.Plan();
  EXPECT_TRUE(d.InPlan(1)) << "joins its load: the device would idle";
  d.Commit();
  d.Drain();
  for (const int64_t id : {1, 2, 3}) EXPECT_EQ(d.FinishOf(id)->reason, FinishReason::kLength);
}

TEST(SchedulerKvTest, WithoutPrefixCachingNothingIsKept) {
  SchedulerOptions options = SmallOptions(40, 40);
  options.prefix_caching = false;
  SchedulerDriver d(options);
  d.Submit(1, Document(1, 20), 1);
  d.Drain();
  d.Submit(2, Document(1, 20), 1);
  d.Drain();
  EXPECT_EQ(d.FinishOf(2)->stats.computed, Tokens(20));
  EXPECT_EQ(d.scheduler.stats().device.free, Blocks(40));
  EXPECT_EQ(d.scheduler.stats().host.free, Blocks(40));
}

TEST(SchedulerKvTest, OutputIsReusedByTheNextTurnOfAConversation) {
  SchedulerDriver d(SmallOptions(40));
  d.Submit(1, Document(1, 10), 7);
  d.Drain();
  d.Submit(2, Document(1, 10) + d.TokensOf(1) + Document(2, 3), 1);
  d.Drain();
  EXPECT_EQ(CachedOn(*d.FinishOf(2), Tier::kDevice), Tokens(16));
}

}  // namespace
}  // namespace sluice::testing
