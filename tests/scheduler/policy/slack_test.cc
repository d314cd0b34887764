// Our policy: each of its rules on hand-made views.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/policy/pressure.h"
#include "scheduler/policy/tenant_shares.h"
#include "tests/scheduler/policy/views.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;

constexpr LinkDirection kLoad = LinkDirection::kHostToDevice;

// A host hit that is never cheaper to compute.
WaitingView LongHit(int64_t arrival, double load, int64_t fresh) {
  WaitingView w = HostHit(arrival, 1000, load, fresh);
  w.recompute = Seconds(1000);
  return w;
}

// A bottleneck link: loads of 10 s wait beside little compute.
std::vector<WaitingView> LinkBound() {
  std::vector<WaitingView> waiting;
  for (int64_t i = 1; i <= 4; ++i) waiting.push_back(HostHit(i, 1000, 10.0, 10));
  return waiting;
}

TEST(SlackPolicyTest, LeastWorkGoesFirst) {
  const std::vector<WaitingView> waiting = {Request(1, 400), Request(2, 100), Request(3, 200)};
  EXPECT_THAT(Order(*Make("slack"), BusyMachine(), waiting), ElementsAre(2, 3, 1));
}

TEST(SlackPolicyTest, WorkCountsAsMuchAsItsResourceIsScarce) {
  // 0.1 s of the scarce link against 0.3 s of idle compute.
  std::vector<WaitingView> waiting = LinkBound();
  waiting.push_back(LongHit(5, 0.1, 10));
  waiting.push_back(Request(6, 300));
  EXPECT_EQ(Make("slack")->Pick(BusyMachine(), waiting).choice->index, 5U);
}

TEST(SlackPolicyTest, WhoHasWaitedPastItsBoundGoesFirstWhetherItFitsOrNot) {
  std::vector<WaitingView> waiting = {Request(1, 100), Request(2, 900), Request(3, 900)};
  waiting[1].overdue_at = waiting[2].overdue_at = Seconds(99);  // now is 100
  waiting[1].need = Blocks(5000);
  const Verdict verdict = Make("slack")->Pick(BusyMachine(), waiting);
  EXPECT_EQ(verdict.choice->index, 1U);
  EXPECT_TRUE(verdict.choice->overdue);
}

TEST(SlackPolicyTest, APriorityIsNotOvertakenByTheOverdue) {
  std::vector<WaitingView> waiting = {Request(1), Request(2)};
  waiting[0].overdue_at = Seconds(1);
  waiting[1].priority = 1;
  EXPECT_EQ(Make("slack")->Pick(BusyMachine(), waiting).choice->index, 1U);
}

TEST(SlackPolicyTest, AFullLinkTakesComputeHeavyWorkOnly) {
  MachineView machine = BusyMachine();
  BacklogOf(machine, kLoad) = Seconds(1);
  const std::vector<WaitingView> loads = {LongHit(1, 0.9, 100)};
  EXPECT_EQ(Make("slack")->Pick(machine, loads).pass, Decision::kWaitLink);
  const std::vector<WaitingView> both = {LongHit(1, 0.9, 100), Request(2, 2000)};
  EXPECT_EQ(Make("slack")->Pick(machine, both).choice->index, 1U) << "paired with the load";
}

TEST(SlackPolicyTest, AFullDeviceTakesLinkHeavyWorkOnly) {
  MachineView machine = BusyMachine();
  machine.compute_backlog = Seconds(1);
  const std::vector<WaitingView> prompts = {Request(1, 500)};
  EXPECT_EQ(Make("slack")->Pick(machine, prompts).pass, Decision::kWaitCompute);
  const std::vector<WaitingView> both = {Request(1, 500), LongHit(2, 0.9, 100)};
  EXPECT_EQ(Make("slack")->Pick(machine, both).choice->index, 1U);
}

TEST(SlackPolicyTest, ASmallRequestOvertakesWhatIsQueued) {
  MachineView machine = BusyMachine();
  machine.compute_backlog = Seconds(5);
  BacklogOf(machine, kLoad) = Seconds(5);
  const std::vector<WaitingView> waiting = {LongHit(1, 0.01, 20)};
  EXPECT_TRUE(Make("slack")->Pick(machine, waiting).choice.has_value());
  EXPECT_LT(Make("slack")->LoadRank(machine, waiting[0]),
            Make("slack")->LoadRank(machine, LongHit(2, 0.5, 20)));
}

TEST(SlackPolicyTest, AnIdleMachineAdmitsWhateverFits) {
  const std::vector<WaitingView> waiting = {HostHit(1, 100000, 50.0, 10)};
  EXPECT_TRUE(Make("slack")->Pick(PlainMachine(), waiting).choice.has_value());
}

TEST(SlackPolicyTest, WaitsForAPrefixThatAnotherRequestComputes) {
  std::vector<WaitingView> waiting = {Request(1, 1000)};
  waiting[0].pending = Tokens(900);
  EXPECT_EQ(Make("slack")->Pick(BusyMachine(), waiting).pass, Decision::kWaitJoin);
  waiting[0].pending = Tokens(10);
  EXPECT_TRUE(Make("slack")->Pick(BusyMachine(), waiting).choice.has_value()) << "not worth it";
}

TEST(SlackPolicyTest, WaitsForADiskThatIsLateNoLongerThanComputingTakes) {
  std::vector<WaitingView> waiting = {Request(1, 100)};
  waiting[0].arrived = Seconds(99.5);  // now is 100
  waiting[0].tokens += Tokens(1000);   // a second to compute
  waiting[0].on_disk = Tokens(1000);
  MachineView machine = PlainMachine();
  machine.staging_late = Seconds(0.9);
  EXPECT_TRUE(Make("slack")->Pick(machine, waiting).choice.has_value()) << "not for this request";
  waiting[0].staging = true;
  EXPECT_EQ(Make("slack")->Pick(machine, waiting).pass, Decision::kWaitStaging);
  machine.staging_late = Seconds(1.1);
  EXPECT_TRUE(Make("slack")->Pick(machine, waiting).choice.has_value()) << "for too long";
  machine.staging_late = Seconds(0);
  EXPECT_TRUE(Make("slack")->Pick(machine, waiting).choice.has_value()) << "nothing is on its way";
}

TEST(SlackPolicyTest, NamesWhomItWouldAdmitWithMoreRoom) {
  MachineView machine = BusyMachine();
  machine.available = Blocks(0);
  const std::vector<WaitingView> waiting = {Request(1, 500), Request(2, 100)};
  const Verdict verdict = Make("slack")->Pick(machine, waiting);
  EXPECT_FALSE(verdict.choice.has_value());
  EXPECT_EQ(verdict.pass, Decision::kWaitBlocks);
  EXPECT_EQ(verdict.next, 1U);
}

TEST(SlackPolicyTest, ChunksLeaveRoomForTheTimeBetweenTokens) {
  RunningViews running;
  running.Add(1000);
  running.AddDecode();
  MachineView machine = BusyMachine();
  machine.decode_step = Seconds(0.02);  // of 0.05, at 1 ms a token
  EXPECT_THAT(StepOf(*Make("slack"), machine, running),
              ElementsAre(IndexAndCount(1, 1), IndexAndCount(0, 30)));
  machine.decoding = 0;
  RunningViews alone;
  alone.Add(1000);
  EXPECT_THAT(StepOf(*Make("slack"), machine, alone), ElementsAre(IndexAndCount(0, 1000)));
}

TEST(SlackPolicyTest, TokensUnderTheFloorOfAStepAreFree) {
  CostCoefficients cost = PlainCost();
  cost.weight_read = Seconds(0.2);
  RunningViews running;
  running.Add(1000);
  running.AddDecode();
  MachineView machine = BusyMachine();
  machine.cost = &cost;
  machine.decode_step = Seconds(0.2);  // the target is missed anyway
  EXPECT_THAT(StepOf(*Make("slack"), machine, running),
              ElementsAre(IndexAndCount(1, 1), IndexAndCount(0, 200)));
}

TEST(SlackPolicyTest, ShortestPrefillOfAStepFirst) {
  RunningViews running;
  running.Add(900);
  running.Add(300);
  EXPECT_THAT(StepOf(*Make("slack"), BusyMachine(0), running),
              ElementsAre(IndexAndCount(1, 300), IndexAndCount(0, 724)));
}

TEST(SlackPolicyTest, ThePromiseGrowsWithTheWorkAhead) {
  const auto policy = Make("slack");
  const MachineView machine = BusyMachine();
  const WaitingView request = Request(9, 100);
  const WaitPromise alone = policy->Promise(machine, request, {});
  EXPECT_EQ(alone.overdue_at.value(), request.arrived.value() + 30) << "patience";
  const std::vector<WaitingView> ahead = {Request(1, 3000)};
  const WaitPromise behind = policy->Promise(machine, request, ahead);
  EXPECT_EQ(behind.overdue_at.value(), request.arrived.value() + 30 + 2 * 3.0);
  EXPECT_GT(behind.bound, alone.bound);
  EXPECT_GE(behind.bound, behind.overdue_at - request.arrived);
}

// ---- Prices ------------------------------------------------------------------------------------

TEST(PressureTest, TheScarcestResourceIsWorthMost) {
  const Pressure p = PressureOf(PlainMachine(), LinkBound());
  EXPECT_DOUBLE_EQ(p.link.value(), 40);
  EXPECT_DOUBLE_EQ(p.link_price, 1);
  EXPECT_LT(p.compute_price, 0.1);
}

TEST(PressureTest, ALinkBoundQueueSplitsSoThatLinkAndComputeEndTogether) {
  const Pressure p = PressureOf(PlainMachine(), LinkBound());
  // link (1 - f) = compute + f recompute: 40 - 40 f = 0.04 + 4 f.
  EXPECT_NEAR(p.balancing_share, (40 - 0.04) / 44, 1e-12);
  const PlanPrice plan = CheapestPlan(PlainMachine(), p, LinkBound()[0]);
  EXPECT_EQ(plan.plan, RequestPlan::kRecompute) << "1 s of idle compute for 10 s of link";
}

// 5 s of link or 2 s of compute: the link is spared for others, if there are any.
TEST(PressureTest, ARequestAloneOnAnIdleMachineIsServedSoonest) {
  const std::vector<WaitingView> waiting = {HostHit(1, 2000, 5.0)};
  MachineView machine = PlainMachine();
  const auto plan = [&] { return CheapestPlan(machine, PressureOf(machine, waiting), waiting[0]); };
  const PlanPrice alone = plan();
  EXPECT_EQ(alone.plan, RequestPlan::kSplit);
  for (const RequestPlan other : {RequestPlan::kLoad, RequestPlan::kRecompute}) {
    EXPECT_LT(alone.ready, PriceOf(other, machine, PressureOf(machine, waiting), waiting[0]).ready);
  }
  machine.running = 1;
  EXPECT_EQ(plan().plan, RequestPlan::kRecompute);
}

TEST(PressureTest, NothingIsSplitWhenMemoryHoldsTheLinkBack) {
  std::vector<WaitingView> waiting = LinkBound();
  for (WaitingView& w : waiting) {
    w.need = Blocks(1000);
    w.hold = Seconds(100);
  }
  EXPECT_EQ(PressureOf(PlainMachine(), waiting).balancing_share, 0);
}

TEST(PressureTest, MemoryThatRunningRequestsHoldCounts) {
  MachineView machine = PlainMachine();
  const std::vector<WaitingView> waiting = {Request(1)};
  const Seconds before = PressureOf(machine, waiting).memory;
  machine.held_block_seconds = 500;  // half the pool for a second
  EXPECT_NEAR((PressureOf(machine, waiting).memory - before).value(), 0.5, 1e-9);
}

TEST(PressureTest, AFastLinkLoads) {
  const std::vector<WaitingView> waiting = {HostHit(1, 1000, 0.1, 500), Request(2, 3000)};
  const MachineView machine = PlainMachine();
  const Pressure p = PressureOf(machine, waiting);
  EXPECT_EQ(CheapestPlan(machine, p, waiting[0]).plan, RequestPlan::kLoad);
  EXPECT_EQ(CheapestPlan(machine, p, waiting[1]).plan, RequestPlan::kResident);
}

TEST(PressureTest, AFewQueryTokensAreAttendedInPlaceIfTheHostCan) {
  CostCoefficients cost = PlainCost();
  cost.per_in_place_token = Seconds(1e-5);
  MachineView machine = PlainMachine();
  machine.cost = &cost;
  std::vector<WaitingView> waiting = {HostHit(1, 1000, 2.0, 2)};
  waiting[0].max_new = Tokens(4);
  const Pressure p = PressureOf(machine, waiting);
  EXPECT_NE(CheapestPlan(machine, p, waiting[0]).plan, RequestPlan::kInPlace);
  machine.attends_in_place = true;
  EXPECT_EQ(CheapestPlan(machine, p, waiting[0]).plan, RequestPlan::kInPlace);
}

// A CPU reads what is on the host once for every tile of a chunk: in place pays for few tiles.
TEST(PressureTest, OnACpuFewTilesAreAttendedInPlaceAndManyAreLoaded) {
  CostCoefficients cost = PlainCost();
  cost.in_place_on_device = true;
  cost.per_in_place_read = Seconds(1e-5);
  cost.per_in_place_reread = Seconds(1e-5);
  cost.in_place_tile = Tokens(32);
  MachineView machine = PlainMachine();
  machine.cost = &cost;
  machine.attends_in_place = true;
  const auto plan = [&](int64_t fresh) {
    std::vector<WaitingView> waiting = {HostHit(1, 1000, 0.5, fresh)};
    waiting[0].max_new = Tokens(1);
    return CheapestPlan(machine, PressureOf(machine, waiting), waiting[0]).plan;
  };
  EXPECT_EQ(plan(32), RequestPlan::kInPlace);
  EXPECT_EQ(plan(4000), RequestPlan::kLoad);
}

// ---- Tenants -----------------------------------------------------------------------------------

TEST(TenantSharesTest, CreditIsFairShareOverDominantShare) {
  TenantShares shares(Seconds(60), {});
  shares.Charge(0, Seconds(0), Seconds(3), Seconds(0), 0);
  EXPECT_EQ(shares.Credit(0), 1) << "alone";
  shares.Charge(1, Seconds(0), Seconds(1), Seconds(1), 0);
  EXPECT_DOUBLE_EQ(shares.Credit(0), 0.5 / 0.75);
  EXPECT_DOUBLE_EQ(shares.Credit(1), 0.5 / 1.0) << "the whole link is its dominant share";
}

TEST(TenantSharesTest, WeightsScaleWhatIsFairAndCreditIsBounded) {
  TenantShares shares(Seconds(60), {3, 1});
  shares.Charge(0, Seconds(0), Seconds(3), Seconds(0), 0);
  shares.Charge(1, Seconds(0), Seconds(1), Seconds(0), 0);
  EXPECT_DOUBLE_EQ(shares.Credit(0), 1);
  EXPECT_DOUBLE_EQ(shares.Credit(1), 1);
  shares.Charge(2, Seconds(0), Seconds(0), Seconds(0), 0);
  EXPECT_DOUBLE_EQ(shares.Credit(2), 4);
}

TEST(TenantSharesTest, UseIsForgotten) {
  TenantShares shares(Seconds(60), {});
  shares.Charge(0, Seconds(0), Seconds(8), Seconds(0), 0);
  shares.Charge(1, Seconds(180), Seconds(1), Seconds(0), 0);  // three half-lives later
  EXPECT_DOUBLE_EQ(shares.Credit(0), 1);
}

}  // namespace
}  // namespace sluice::testing
