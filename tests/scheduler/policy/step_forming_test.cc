#include "scheduler/policy/step_forming.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/scheduler/policy/views.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<IndexAndCount> Parking(const RunningViews& running, int64_t limit) {
  MachineView machine = PlainMachine();
  machine.step_token_limit = Tokens(limit);
  std::vector<StepShare> shares;
  FormParkingStep(machine, running.views(), &shares);
  return Pairs(shares);
}

std::vector<IndexAndCount> Batch(const RunningViews& running, int64_t limit) {
  MachineView machine = PlainMachine();
  machine.step_token_limit = Tokens(limit);
  std::vector<StepShare> shares;
  FormBatchStep(machine, running.views(), &shares);
  return Pairs(shares);
}

TEST(ParkingStepTest, DecodesFirstThenPromptsInOrderOfAdmission) {
  RunningViews running;
  running.Add(100);
  running.AddDecode();
  running.Add(50);
  running.AddDecode();
  EXPECT_THAT(Parking(running, 1000), ElementsAre(IndexAndCount(1, 1), IndexAndCount(3, 1),
                                                  IndexAndCount(0, 100), IndexAndCount(2, 50)));
  EXPECT_THAT(Parking(running, 110), ElementsAre(IndexAndCount(1, 1), IndexAndCount(3, 1),
                                                 IndexAndCount(0, 100), IndexAndCount(2, 8)));
  EXPECT_THAT(Parking(running, 1), ElementsAre(IndexAndCount(1, 1)));
}

TEST(ParkingStepTest, ALoadingSequenceWaitsAsideButComputesItsFront) {
  RunningViews running;
  running.Add(100, {CopyId(1)});
  running.Add(100, {CopyId(2)}).before_loads = Tokens(30);
  running.Add(5);
  EXPECT_THAT(Parking(running, 1000), ElementsAre(IndexAndCount(1, 30), IndexAndCount(2, 5)));
}

TEST(ParkingStepTest, TheFrontIsNotExceededEvenByJoining) {
  RunningViews running;
  running.Add(100, {CopyId(1)}).before_loads = Tokens(30);
  EXPECT_THAT(Parking(running, 1000), ElementsAre(IndexAndCount(0, 30)));
  EXPECT_THAT(Batch(running, 1000), ElementsAre(IndexAndCount(0, 30)));
}

TEST(ParkingStepTest, JoinsTheOldestLoadOnlyWhenNothingElseRuns) {
  RunningViews running;
  running.Add(10, {CopyId(1), CopyId(2)});
  running.Add(10, {CopyId(2)});
  running.Add(10, {CopyId(3)});
  EXPECT_THAT(Parking(running, 100), ElementsAre(IndexAndCount(0, 10), IndexAndCount(1, 10)))
      << "those that wait for no other load than the oldest";
  running.AddDecode();
  EXPECT_THAT(Parking(running, 100), ElementsAre(IndexAndCount(3, 1)));
}

TEST(ParkingStepTest, WhatJoinedInVainDoesNotJoinAgain) {
  RunningViews running;
  running.Add(10, {CopyId(1)}).joinable = false;
  EXPECT_THAT(Parking(running, 100), IsEmpty());
  running.Add(10, {CopyId(2)});
  EXPECT_THAT(Parking(running, 100), ElementsAre(IndexAndCount(1, 10)));
}

TEST(BatchStepTest, PromptsAloneAndLayerByLayerDecodesOnlyWithoutThem) {
  RunningViews running;
  running.AddDecode();
  EXPECT_THAT(Batch(running, 100), ElementsAre(IndexAndCount(0, 1)));
  running.Add(60, {CopyId(1)});
  running.Add(60);
  EXPECT_THAT(Batch(running, 100), ElementsAre(IndexAndCount(1, 60), IndexAndCount(2, 40)));
}

TEST(BatchStepTest, APromptOfOneTokenBelongsToTheBatch) {
  RunningViews running;
  running.AddDecode();
  running.Add(1);
  EXPECT_THAT(Batch(running, 100), ElementsAre(IndexAndCount(1, 1)));
}

TEST(BatchStepTest, DecodesRunWhileThePromptsCanOnlyWait) {
  RunningViews running;
  running.Add(60, {CopyId(1)}).joinable = false;
  running.AddDecode();
  EXPECT_THAT(Batch(running, 100), ElementsAre(IndexAndCount(1, 1)));
}

TEST(StepFormerTest, TakesAnyOrderAndANarrowerLimit) {
  RunningViews running;
  running.Add(40);
  running.AddDecode();
  running.Add(70);
  std::vector<StepShare> shares;
  StepFormer step(running.views(), Tokens(1000), &shares);
  step.AddDecodes();
  step.Limit(Tokens(100));
  step.AddPrefills(std::vector<size_t>{2, 1, 0});
  EXPECT_THAT(Pairs(shares),
              ElementsAre(IndexAndCount(1, 1), IndexAndCount(2, 70), IndexAndCount(0, 30)));
  EXPECT_EQ(step.left(), Tokens(0));
}

TEST(StepFormerTest, SaysHowMuchOfASequenceItTook) {
  RunningViews running;
  running.Add(40);
  running.Add(40, {CopyId(1)});
  std::vector<StepShare> shares;
  StepFormer step(running.views(), Tokens(50), &shares);
  EXPECT_EQ(step.AddReady(0, Tokens(15)), Tokens(15));
  EXPECT_EQ(step.AddReady(1), Tokens(0)) << "nothing is ready while it loads";
  EXPECT_EQ(step.AddJoining(1), Tokens(35));
  EXPECT_THAT(Pairs(shares), ElementsAre(IndexAndCount(0, 15), IndexAndCount(1, 35)));
}

TEST(StepFormerTest, ASequenceDoesNotJoinBeforeItsFrontIsDone) {
  RunningViews running;
  running.Add(40, {CopyId(1)}).before_loads = Tokens(10);
  std::vector<StepShare> shares;
  StepFormer step(running.views(), Tokens(50), &shares);
  EXPECT_EQ(step.AddJoining(0), Tokens(0));
  EXPECT_EQ(step.AddReady(0), Tokens(10));
}

}  // namespace
}  // namespace sluice::testing
