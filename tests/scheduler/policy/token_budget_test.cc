#include "scheduler/policy/token_budget.h"

#include "gtest/gtest.h"
#include "tests/scheduler/policy/views.h"

namespace sluice::testing {
namespace {

// A limit of 1,024 tokens; one decode.
const MachineView kMachine = BusyMachine();

Choice With(RequestPlan plan, int64_t recompute = 0) {
  Choice choice;
  choice.plan = plan;
  choice.recompute = Tokens(recompute);
  return choice;
}

TEST(TokenBudgetTest, IsSpentWhenAdmittedPromptsFillTheStepBesideDecodes) {
  TokenBudget budget(TokenBudget::Loading::kIsFree);
  budget.OnAdmitted(Request(1, 1022), With(RequestPlan::kLoad));
  EXPECT_FALSE(budget.Spent(kMachine)) << "1022 + 1 decode < 1024";
  budget.OnAdmitted(Request(2, 1), With(RequestPlan::kLoad));
  EXPECT_TRUE(budget.Spent(kMachine));
  EXPECT_FALSE(budget.Spent(PlainMachine())) << "nothing runs";
}

TEST(TokenBudgetTest, ParkedLoadsAreFreeAndBatchedLoadsAreNot) {
  TokenBudget parked(TokenBudget::Loading::kIsFree);
  TokenBudget batched(TokenBudget::Loading::kIsCharged);
  const WaitingView hit = HostHit(1, 10000, 1.0, /*fresh=*/2000);
  parked.OnAdmitted(hit, With(RequestPlan::kLoad));
  batched.OnAdmitted(hit, With(RequestPlan::kLoad));
  EXPECT_FALSE(parked.Spent(kMachine));
  EXPECT_TRUE(batched.Spent(kMachine));
}

TEST(TokenBudgetTest, ChargesWhatAPlanComputesBeforeItsLoadsEnd) {
  WaitingView hit = HostHit(1, 4000, 1.0, /*fresh=*/100);
  EXPECT_EQ(DueTokens(hit, With(RequestPlan::kLoad)), Tokens(0));
  EXPECT_EQ(DueTokens(hit, With(RequestPlan::kSplit, 700)), Tokens(700));
  EXPECT_EQ(DueTokens(hit, With(RequestPlan::kInPlace)), Tokens(100));
  EXPECT_EQ(DueTokens(hit, With(RequestPlan::kRecompute)), Tokens(4100));
  hit.on_disk = hit.on_host;
  hit.on_host = Tokens(0);
  EXPECT_EQ(DueTokens(hit, With(RequestPlan::kLoad)), Tokens(4100)) << "disk parts are computed";
}

TEST(TokenBudgetTest, RemembersWhatTheStepLeftOver) {
  TokenBudget budget(TokenBudget::Loading::kIsFree);
  RunningViews running;
  running.AddDecode();
  running.Add(2000);
  running.Add(5000, {CopyId(1)});
  const std::vector<StepShare> shares = {{0, Tokens(1)}, {1, Tokens(976)}};
  budget.OnStepFormed(running.views(), shares);
  EXPECT_TRUE(budget.Spent(kMachine)) << "1024 left";
  const std::vector<StepShare> more = {{0, Tokens(1)}, {1, Tokens(978)}};
  budget.OnStepFormed(running.views(), more);
  EXPECT_FALSE(budget.Spent(kMachine)) << "1022 left and one decode";
}

TEST(TokenBudgetTest, WhatJoinedItsLoadsIsChargedFromThenOn) {
  TokenBudget budget(TokenBudget::Loading::kIsFree);
  RunningViews running;
  running.Add(5000, {CopyId(1)});
  budget.OnStepFormed(running.views(), {});
  EXPECT_FALSE(budget.Spent(kMachine)) << "parked";
  const std::vector<StepShare> joined = {{0, Tokens(1024)}};
  budget.OnStepFormed(running.views(), joined);
  EXPECT_TRUE(budget.Spent(kMachine));
}

}  // namespace
}  // namespace sluice::testing
