// First come first served, as vLLM v1 does it.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/scheduler/policy/views.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(FcfsPolicyTest, AdmitsByPriorityThenResumedThenArrival) {
  std::vector<WaitingView> waiting = {Request(1, 10), Request(2, 10), Request(8, 10),
                                      Request(9, 10)};
  waiting[2].resumed = true;
  waiting[3].priority = 1;
  EXPECT_THAT(Order(*Make("fcfs"), BusyMachine(), waiting), ElementsAre(9, 8, 1, 2));
}

TEST(FcfsPolicyTest, TheFirstThatDoesNotFitHoldsBackTheRest) {
  MachineView machine = BusyMachine();
  machine.available = Blocks(4);
  std::vector<WaitingView> waiting = {Request(1), Request(2)};
  waiting[0].need = Blocks(5);
  EXPECT_EQ(Make("fcfs")->Pick(machine, waiting).choice->index, 0U);
}

TEST(FcfsPolicyTest, DecodesFirstThenChunksInAdmissionOrder) {
  RunningViews running;
  running.Add(100);
  running.AddDecode();
  running.Add(50);
  running.AddDecode();
  MachineView machine = BusyMachine();
  const auto form = [&](int64_t limit) {
    machine.step_token_limit = Tokens(limit);
    return StepOf(*Make("fcfs"), machine, running);
  };
  EXPECT_THAT(form(1000), ElementsAre(IndexAndCount(1, 1), IndexAndCount(3, 1),
                                      IndexAndCount(0, 100), IndexAndCount(2, 50)));
  EXPECT_THAT(form(110), ElementsAre(IndexAndCount(1, 1), IndexAndCount(3, 1),
                                     IndexAndCount(0, 100), IndexAndCount(2, 8)));
  EXPECT_THAT(form(1), ElementsAre(IndexAndCount(1, 1)));
}

TEST(FcfsPolicyTest, LoadersWaitAsideAndJoinOnlyWhenNothingElseRuns) {
  RunningViews running;
  running.Add(10, {CopyId(1), CopyId(2)});
  running.Add(10, {CopyId(2)});
  running.Add(10, {CopyId(3)});
  EXPECT_THAT(StepOf(*Make("fcfs"), BusyMachine(0), running),
              ElementsAre(IndexAndCount(0, 10), IndexAndCount(1, 10)))
      << "those that wait for no other load than the oldest";
  running.AddDecode();
  EXPECT_THAT(StepOf(*Make("fcfs"), BusyMachine(), running), ElementsAre(IndexAndCount(3, 1)));
}

TEST(FcfsPolicyTest, ALoaderThatJoinedInVainDoesNotJoinAgain) {
  RunningViews running;
  running.Add(10, {CopyId(1)}).joinable = false;
  EXPECT_THAT(StepOf(*Make("fcfs"), BusyMachine(0), running), IsEmpty());
}

}  // namespace
}  // namespace sluice::testing
