// The baselines that run prompts in batches with loads layer by layer, as SGLang with HiCache does:
// what sets each apart.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/scheduler/policy/views.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// ---- hicache-fcfs ----------------------------------------------------------------------------

TEST(HicacheFcfsTest, NoLoadRunsAheadOfTheBatch) {
  const auto policy = Make("hicache-fcfs");
  const std::vector<WaitingView> waiting = {HostHit(1, 9000, 1.0, /*fresh=*/600),
                                            HostHit(2, 9000, 1.0, /*fresh=*/600),
                                            HostHit(3, 9000, 1.0, /*fresh=*/600)};
  EXPECT_THAT(Order(*policy, BusyMachine(), waiting), ElementsAre(1, 2))
      << "1,200 of 1,024 tokens: the batch is full, and the third load does not start";
  RunningViews running;
  running.AddDecode();
  running.Add(600, {CopyId(1)});
  running.Add(600, {CopyId(2)});
  EXPECT_THAT(StepOf(*policy, BusyMachine(), running),
              ElementsAre(IndexAndCount(1, 600), IndexAndCount(2, 424)))
      << "joins layer by layer, and no decode runs beside it";
  EXPECT_THAT(Order(*policy, BusyMachine(), {waiting[2]}), ElementsAre(3))
      << "176 tokens are left over: the next batch has room";
}

TEST(HicacheFcfsTest, TheFirstThatDoesNotFitEndsTheBatch) {
  MachineView machine = BusyMachine();
  machine.available = Blocks(20);
  std::vector<WaitingView> waiting = {Request(1), Request(2)};
  waiting[0].need = Blocks(100);
  EXPECT_EQ(Make("hicache-fcfs")->Pick(machine, waiting).choice->index, 0u);
}

// ---- lpm -------------------------------------------------------------------------------------

TEST(LpmTest, LongestCachedPrefixFirst) {
  WaitingView on_device = Request(3, 800);
  on_device.on_device = Tokens(700);
  const std::vector<WaitingView> waiting = {Request(1), HostHit(2, 500, 0.1), on_device,
                                            HostHit(4, 600, 0.1)};
  EXPECT_THAT(Order(*Make("lpm"), BusyMachine(), waiting), ElementsAre(3, 4, 2, 1));
}

TEST(LpmTest, PutsLastWhatWouldHitMoreIfItWaited) {
  WaitingView shares_prefix = HostHit(1, 500, 0.1);
  shares_prefix.pending = Tokens(64);
  const std::vector<WaitingView> waiting = {shares_prefix, Request(2)};
  EXPECT_THAT(Order(*Make("lpm"), BusyMachine(), waiting), ElementsAre(2, 1));
}

TEST(LpmTest, FallsBackToArrivalWhenTheQueueIsLong) {
  std::vector<WaitingView> waiting;
  for (int64_t i = 0; i < 128; ++i) waiting.push_back(HostHit(i, 10 * i + 10, 0.1, 1));
  const auto policy = Make("lpm");
  EXPECT_EQ(policy->Pick(BusyMachine(), waiting).choice->index, 127u);
  waiting.push_back(Request(128));
  EXPECT_EQ(policy->Pick(BusyMachine(), waiting).choice->index, 0u);
}

// ---- hrrn ------------------------------------------------------------------------------------

TEST(HrrnTest, LongestWaitRelativeToServiceFirst) {
  std::vector<WaitingView> waiting = {Request(1, 500), Request(2, 100), Request(3, 50)};
  waiting[0].arrived = Seconds(90);    // 10 s / 0.5 s = 20
  waiting[1].arrived = Seconds(97);    // 3 s / 0.1 s = 30
  waiting[2].arrived = Seconds(99.5);  // 0.5 s / 0.05 s = 10
  EXPECT_THAT(Order(*Make("hrrn"), BusyMachine(), waiting), ElementsAre(2, 1, 3));
}

TEST(HrrnTest, CountsOnlyTheComputeOfAHit) {
  std::vector<WaitingView> waiting = {Request(1, 200), HostHit(2, 5000, 3.0, 100)};
  waiting[0].arrived = waiting[1].arrived = Seconds(99);
  EXPECT_THAT(Order(*Make("hrrn"), BusyMachine(), waiting), ElementsAre(2, 1));
}

// ---- shortest-prefill ------------------------------------------------------------------------

TEST(ShortestPrefillTest, FewestUncachedTokensFirstWhateverTheLoad) {
  WaitingView on_disk = Request(3, 500);
  on_disk.on_disk = Tokens(450);
  const std::vector<WaitingView> waiting = {Request(1, 200), HostHit(2, 90000, 5.0, 100), on_disk};
  EXPECT_THAT(Order(*Make("shortest-prefill"), BusyMachine(), waiting), ElementsAre(2, 1, 3))
      << "what is on the disk would be computed";
}

TEST(ShortestPrefillTest, ALongPromptUnderWayMakesRoomForShorterOnes) {
  const auto policy = Make("shortest-prefill");
  const MachineView machine = BusyMachine();
  EXPECT_THAT(Order(*policy, machine, {Request(1, 5000)}), ElementsAre(1));
  RunningViews running;
  running.Add(5000);
  EXPECT_THAT(StepOf(*policy, machine, running), ElementsAre(IndexAndCount(0, 1024)));
  // 3,976 left. Beside it: 500 + 400 fit into 1,024 less a page, a third does not, nor a longer.
  const std::vector<WaitingView> waiting = {Request(2, 400), Request(3, 500), Request(4, 600)};
  EXPECT_THAT(Order(*policy, machine, waiting), ElementsAre(2, 3));
  EXPECT_THAT(Order(*Make("shortest-prefill"), machine, {Request(5, 6000)}), ElementsAre(5));
  running.Add(400);
  running.Add(500);
  EXPECT_THAT(StepOf(*policy, machine, running),
              ElementsAre(IndexAndCount(1, 400), IndexAndCount(2, 500), IndexAndCount(0, 124)));
}

TEST(ShortestPrefillTest, ALongerPromptWaitsUntilTheOneUnderWayLeavesRoom) {
  const auto policy = Make("shortest-prefill");
  ASSERT_THAT(Order(*policy, BusyMachine(), {Request(1, 5000)}), ElementsAre(1));
  EXPECT_THAT(Order(*policy, BusyMachine(), {Request(2, 6000)}), IsEmpty());
}

// ---- strata ----------------------------------------------------------------------------------

TEST(StrataTest, TakesRequestsInOrderAsLongAsLoadsStayWithinCompute) {
  const std::vector<WaitingView> waiting = {
      Request(1, 300),                        // compute 0.3
      HostHit(2, 1000, 0.5, /*fresh=*/100),   // 0.5 > 0.3 + 0.1: would tip the batch
      HostHit(3, 1000, 0.2, /*fresh=*/100),   // 0.2 <= 0.4
      HostHit(4, 1000, 0.35, /*fresh=*/100),  // 0.55 > 0.5
      Request(5, 100),
  };
  EXPECT_THAT(Order(*Make("strata"), BusyMachine(), waiting), ElementsAre(1, 3, 5, 4))
      << "and when the fifth has added compute, the fourth fits in";
}

TEST(StrataTest, AnEmptyBatchTakesTheFirstHoweverLoadBound) {
  const std::vector<WaitingView> waiting = {HostHit(1, 1000, 5.0, /*fresh=*/10)};
  EXPECT_THAT(Order(*Make("strata"), BusyMachine(), waiting), ElementsAre(1));
}

TEST(StrataTest, WhatEarlierBatchesLeftOverCounts) {
  MachineView machine = BusyMachine();
  BacklogOf(machine, LinkDirection::kHostToDevice) = Seconds(1);
  machine.compute_backlog = Seconds(0.5);
  const auto policy = Make("strata");
  const std::vector<WaitingView> waiting = {HostHit(1, 1000, 0.1, /*fresh=*/200)};
  EXPECT_EQ(policy->Pick(machine, waiting).pass, Decision::kWaitLink);
  EXPECT_THAT(Order(*policy, machine, {Request(2, 600), waiting[0]}), ElementsAre(2, 1));
}

TEST(StrataTest, EveryStepOpensANewBatch) {
  MachineView machine = BusyMachine();
  machine.compute_backlog = Seconds(0.5);
  const auto policy = Make("strata");
  const std::vector<WaitingView> waiting = {HostHit(1, 1000, 3.0, /*fresh=*/200)};
  EXPECT_THAT(Order(*policy, machine, waiting), IsEmpty());
  RunningViews running;
  running.AddDecode();
  StepOf(*policy, machine, running);
  EXPECT_THAT(Order(*policy, BusyMachine(), waiting), ElementsAre(1)) << "the batch is empty now";
}

TEST(StrataTest, DefersADelayedHit) {
  WaitingView delayed = Request(1, 500);
  delayed.pending = Tokens(400);
  const auto policy = Make("strata");
  EXPECT_THAT(Order(*policy, BusyMachine(), {delayed, Request(2)}), ElementsAre(2));
  EXPECT_EQ(policy->Pick(BusyMachine(), {&delayed, 1}).pass, Decision::kWaitJoin);
}

TEST(StrataTest, DecodesFillTheBubbleOfALoadBoundBatch) {
  const auto policy = Make("strata");
  RunningViews running;
  running.AddDecode();
  RunningView& prompt = running.Add(100, {CopyId(1)});
  prompt.load_left = Seconds(0.4);  // 0.1 s of compute
  EXPECT_THAT(StepOf(*policy, BusyMachine(), running), ElementsAre(IndexAndCount(0, 1)));
  prompt.load_left = Seconds(0.1);
  EXPECT_THAT(StepOf(*policy, BusyMachine(), running), ElementsAre(IndexAndCount(1, 100)))
      << "what is left of the load is hidden now";
}

TEST(StrataTest, WithoutDecodesThereIsNothingToFillABubbleWith) {
  RunningViews running;
  running.Add(100, {CopyId(1)}).load_left = Seconds(4);
  EXPECT_THAT(StepOf(*Make("strata"), BusyMachine(), running), ElementsAre(IndexAndCount(0, 100)));
}

// ---- naive-deferral --------------------------------------------------------------------------

TEST(NaiveDeferralTest, DefersHitsWhileAnythingDecodesUpToFiveSeconds) {
  WaitingView hit = HostHit(1, 8000, 0.1, /*fresh=*/10);
  hit.arrived = Seconds(96);
  const auto policy = Make("naive-deferral");
  EXPECT_THAT(Order(*policy, BusyMachine(), {hit, Request(2)}), ElementsAre(2));
  hit.arrived = Seconds(94.9);
  EXPECT_THAT(Order(*policy, BusyMachine(), {hit, Request(2)}), ElementsAre(1, 2));
}

TEST(NaiveDeferralTest, WithoutDecodesHitsGoLastAndWhenIdleAtOnce) {
  WaitingView hit = HostHit(1, 8000, 0.1, /*fresh=*/10);
  hit.arrived = Seconds(96);
  const auto policy = Make("naive-deferral");
  MachineView machine = BusyMachine();
  machine.decoding = 0;
  EXPECT_THAT(Order(*policy, machine, {hit, Request(200000)}), ElementsAre(200000, 1));
  EXPECT_THAT(Order(*Make("naive-deferral"), PlainMachine(), {hit}), ElementsAre(1));
}

// ---- timed-prefetch --------------------------------------------------------------------------

TEST(TimedPrefetchTest, WaitsForTheDiskAsLongAsTheTokensOnItAllow) {
  WaitingView on_disk = Request(1, 5000);
  on_disk.on_disk = Tokens(4096);  // 1 s + 4 x 0.25 s
  const auto policy = Make("timed-prefetch");
  on_disk.arrived = Seconds(98.1);
  EXPECT_THAT(Order(*policy, BusyMachine(), {on_disk, Request(2)}), ElementsAre(2))
      << "others pass it";
  EXPECT_EQ(policy->Pick(BusyMachine(), {&on_disk, 1}).pass, Decision::kWaitStaging);
  on_disk.arrived = Seconds(97.9);
  EXPECT_THAT(Order(*policy, BusyMachine(), {on_disk, Request(2)}), ElementsAre(1));
}

TEST(TimedPrefetchTest, GoesOnceItIsStagedAndDoesNotWaitASecondTime) {
  WaitingView staged = HostHit(1, 4096, 0.1);
  staged.arrived = Seconds(100);
  EXPECT_THAT(Order(*Make("timed-prefetch"), BusyMachine(), {staged}), ElementsAre(1));
  WaitingView resumed = Request(1, 5000);
  resumed.on_disk = Tokens(4096);
  resumed.arrived = Seconds(100);
  resumed.resumed = true;
  EXPECT_THAT(Order(*Make("timed-prefetch"), BusyMachine(), {resumed}), ElementsAre(1));
}

TEST(TimedPrefetchTest, DoesNotWaitOnAnIdleMachineWhoseDiskRests) {
  WaitingView on_disk = Request(1, 5000);
  on_disk.on_disk = Tokens(4096);
  on_disk.arrived = Seconds(100);
  MachineView machine = PlainMachine();
  EXPECT_THAT(Order(*Make("timed-prefetch"), machine, {on_disk}), ElementsAre(1));
  BacklogOf(machine, LinkDirection::kDiskToHost) = Seconds(0.1);
  EXPECT_THAT(Order(*Make("timed-prefetch"), machine, {on_disk}), IsEmpty());
}

}  // namespace
}  // namespace sluice::testing
