// The baselines that park loads, as vLLM does: what sets each apart.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/scheduler/policy/views.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;

WaitingView Needing(int64_t arrival, int64_t blocks) {
  WaitingView w = Request(arrival);
  w.need = Blocks(blocks);
  return w;
}

// ---- vllm-fcfs-skip --------------------------------------------------------------------------

TEST(VllmFcfsSkipTest, SkipsWhatDoesNotFitWhereFcfsStops) {
  MachineView machine = BusyMachine();
  machine.available = Blocks(20);  // vLLM #57841: needs of 100, 10 and 5 blocks, 20 free
  const std::vector<WaitingView> waiting = {Needing(1, 100), Needing(2, 10), Needing(3, 5)};
  EXPECT_EQ(Make("fcfs")->Pick(machine, waiting).choice->index, 0u);
  EXPECT_EQ(Make("vllm-fcfs-skip")->Pick(machine, waiting).choice->index, 1u);
}

TEST(VllmFcfsSkipTest, DoesNotSkipTheHighestPriority) {
  MachineView machine = BusyMachine();
  machine.available = Blocks(20);
  std::vector<WaitingView> waiting = {Needing(1, 5), Needing(2, 100)};
  waiting[1].priority = 1;
  EXPECT_EQ(Make("vllm-fcfs-skip")->Pick(machine, waiting).choice->index, 1u)
      << "it may preempt the other for it";
}

TEST(VllmFcfsSkipTest, AdmitsWhileTokensOfTheStepAreLeftAndParksLoadsForFree) {
  const auto policy = Make("vllm-fcfs-skip");
  const std::vector<WaitingView> waiting = {HostHit(1, 9000, 1.0), HostHit(2, 9000, 1.0),
                                            Request(3, 700), Request(4, 700), Request(5, 700)};
  EXPECT_THAT(Order(*policy, BusyMachine(), waiting), ElementsAre(1, 2, 3, 4))
      << "700 + 700 of 1024 tokens are the last to get in";
  EXPECT_EQ(policy->Pick(BusyMachine(), waiting).pass, Decision::kWaitCompute);
}

// ---- drr -------------------------------------------------------------------------------------

WaitingView OfTenant(int64_t arrival, int32_t tenant, int64_t tokens) {
  WaitingView w = Request(arrival, tokens);
  w.tenant = tenant;
  return w;
}

MachineView Unlimited() {
  MachineView machine = BusyMachine();
  machine.step_token_limit = Tokens(1 << 30);
  return machine;
}

TEST(DrrTest, TenantsTakeTurnsByTokensNotByRequests) {
  std::vector<WaitingView> waiting;
  for (int64_t i = 0; i < 4; ++i) waiting.push_back(OfTenant(i, 0, 4096));
  for (int64_t i = 4; i < 12; ++i) waiting.push_back(OfTenant(i, 1, 2048));
  const std::vector<int64_t> order = Order(*Make("drr"), Unlimited(), waiting);
  ASSERT_EQ(order.size(), waiting.size());
  // After every round each has had 4,096 tokens: one large against two small.
  EXPECT_THAT(std::vector<int64_t>(order.begin(), order.begin() + 6),
              ::testing::UnorderedElementsAre(0, 1, 4, 5, 6, 7));
}

TEST(DrrTest, WeightsScaleTheQuantum) {
  PolicyOptions options;
  options.tenant_weights = {1, 3};
  std::vector<WaitingView> waiting;
  for (int64_t i = 0; i < 8; ++i) waiting.push_back(OfTenant(i, 0, 4096));
  for (int64_t i = 8; i < 16; ++i) waiting.push_back(OfTenant(i, 1, 4096));
  const std::vector<int64_t> order = Order(*Make("drr", options), Unlimited(), waiting);
  const auto of_second =
      std::count_if(order.begin(), order.begin() + 8, [](int64_t arrival) { return arrival >= 8; });
  EXPECT_EQ(of_second, 6);
}

// The same as the closed form, round by round.
std::vector<int64_t> SlowDrr(std::vector<WaitingView> waiting, size_t tenants) {
  std::vector<double> deficit(tenants, 0);
  std::vector<int64_t> order;
  size_t at = 0;
  bool visited = true;  // the ring starts at tenant 0, which has no quantum yet
  while (!waiting.empty()) {
    const auto head = std::find_if(waiting.begin(), waiting.end(), [at](const WaitingView& w) {
      return w.tenant == static_cast<int32_t>(at);
    });
    if (head != waiting.end() && !visited) deficit[at] += 4096;
    visited = true;
    if (head != waiting.end() && deficit[at] >= static_cast<double>(head->tokens.value())) {
      deficit[at] -= static_cast<double>(head->tokens.value());
      order.push_back(head->arrival);
      waiting.erase(head);
      continue;
    }
    if (head == waiting.end()) deficit[at] = 0;
    at = (at + 1) % tenants;
    visited = false;
  }
  return order;
}

TEST(DrrTest, EqualsTheRoundRobinPlayedOutRoundByRound) {
  uint64_t state = 20240817;
  const auto random = [&state](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int64_t>((state >> 33) % below);
  };
  for (int trial = 0; trial < 50; ++trial) {
    SCOPED_TRACE(trial);
    std::vector<WaitingView> waiting;
    for (int64_t i = 0; i < 40; ++i) {
      waiting.push_back(OfTenant(i, static_cast<int32_t>(random(4)), 1 + random(30000)));
    }
    EXPECT_EQ(Order(*Make("drr"), Unlimited(), waiting), SlowDrr(waiting, 4));
  }
}

TEST(DrrTest, BillsAHitOfAnySizeByItsUncachedTokens) {
  std::vector<WaitingView> waiting = {OfTenant(0, 0, 5000)};
  for (int64_t i = 1; i < 20; ++i) {
    waiting.push_back(HostHit(i, 100000, 1.0, /*fresh=*/1));
    waiting.back().tenant = 1;
  }
  EXPECT_EQ(Order(*Make("drr"), Unlimited(), waiting).back(), 0)
      << "nineteen hits of 100,000 tokens cost 19 tokens: all pass before one prompt of 5,000";
}

TEST(DrrTest, PassesOverATenantWhoseNextDoesNotFit) {
  MachineView machine = Unlimited();
  machine.available = Blocks(20);
  std::vector<WaitingView> waiting = {Needing(0, 100), Needing(1, 10)};
  waiting[1].tenant = 1;
  EXPECT_EQ(Make("drr")->Pick(machine, waiting).choice->index, 1u);
}

// ---- bidaw -----------------------------------------------------------------------------------

TEST(BidawTest, SmallestLoadFirstAmongThoseInHostMemory) {
  const std::vector<WaitingView> waiting = {HostHit(1, 5000, 0.5), HostHit(2, 300, 0.03),
                                            HostHit(3, 2000, 0.2), Request(4, 100)};
  EXPECT_THAT(Order(*Make("bidaw"), Unlimited(), waiting), ElementsAre(4, 2, 3, 1));
}

TEST(BidawTest, LeavesTheOthersToTheDiskWhileItReads) {
  MachineView machine = Unlimited();
  WaitingView on_disk = Request(1, 5000);
  on_disk.on_disk = Tokens(4000);
  on_disk.stage = Seconds(0.5);
  on_disk.recompute = Seconds(4);
  const std::vector<WaitingView> waiting = {on_disk, HostHit(2, 3000, 0.3)};
  const auto policy = Make("bidaw");
  BacklogOf(machine, LinkDirection::kDiskToHost) = Seconds(0.4);
  EXPECT_THAT(Order(*policy, machine, waiting), ElementsAre(2));
  EXPECT_EQ(policy->Pick(machine, {&on_disk, 1}).pass, Decision::kWaitStaging);
  // The disk rests and had time: nobody is fetching it.
  BacklogOf(machine, LinkDirection::kDiskToHost) = Seconds(0);
  EXPECT_THAT(Order(*policy, machine, waiting), ElementsAre(1, 2));
}

// ---- cake and kvpr ---------------------------------------------------------------------------

TEST(CakeTest, SplitsWhereComputingTheFrontMeetsLoadingTheBack) {
  // 1,000 tokens: 1 s to compute, 0.25 s to load. x = 0.25 (1 - x) -> x = 0.2.
  const std::vector<WaitingView> waiting = {HostHit(1, 1000, 0.25)};
  const Choice choice = *Make("cake")->Pick(PlainMachine(), waiting).choice;
  EXPECT_EQ(choice.plan, RequestPlan::kSplit);
  EXPECT_NEAR(static_cast<double>(choice.recompute.value()), 200, 1);
}

TEST(CakeTest, ShiftsTheMeetingPointToTheIdleResource) {
  const std::vector<WaitingView> waiting = {HostHit(1, 1000, 0.25)};
  MachineView machine = BusyMachine();
  machine.compute_backlog = Seconds(0.3);
  EXPECT_EQ(Make("cake")->Pick(machine, waiting).choice->plan, RequestPlan::kLoad)
      << "all is loaded before the device gets to it";
  machine.compute_backlog = Seconds(0);
  BacklogOf(machine, LinkDirection::kHostToDevice) = Seconds(2);
  EXPECT_EQ(Make("cake")->Pick(machine, waiting).choice->recompute, Tokens(1000))
      << "all is computed before the link gets to it";
}

TEST(CakeTest, HasNothingToSplitWithoutAHostPart) {
  const std::vector<WaitingView> waiting = {Request(1)};
  EXPECT_EQ(Make("cake")->Pick(PlainMachine(), waiting).choice->plan, RequestPlan::kLoad);
}

TEST(KvprTest, SplitsAtTheSameShareWhateverIsQueued) {
  // 0.25 ms to load and 1 ms to compute a token: 0.25 / 1.25 of 1,000 tokens.
  const std::vector<WaitingView> waiting = {HostHit(1, 1000, 0.25)};
  MachineView machine = BusyMachine();
  EXPECT_EQ(Make("kvpr")->Pick(machine, waiting).choice->recompute, Tokens(200));
  machine.compute_backlog = Seconds(10);
  BacklogOf(machine, LinkDirection::kHostToDevice) = Seconds(2);
  EXPECT_EQ(Make("kvpr")->Pick(machine, waiting).choice->recompute, Tokens(200));
}

// ---- aged-wspt -------------------------------------------------------------------------------

TEST(AgedWsptTest, LeastWorkFirstAndWorkGrowsWithTheSquare) {
  const std::vector<WaitingView> waiting = {Request(1, 4000), Request(2, 1000), Request(3, 2000)};
  EXPECT_THAT(Order(*Make("aged-wspt"), Unlimited(), waiting), ElementsAre(2, 3, 1));
}

TEST(AgedWsptTest, CountsAttentionOverTheCachedPart) {
  // 100 new tokens after 20,000 cached: 2.0 M pairs. 1,500 tokens alone: 1.1 M pairs.
  const std::vector<WaitingView> waiting = {HostHit(1, 20000, 1.0, 100), Request(2, 1500)};
  EXPECT_THAT(Order(*Make("aged-wspt"), Unlimited(), waiting), ElementsAre(2, 1));
}

TEST(AgedWsptTest, AgeDoublesPriorityEveryFiveSeconds) {
  // Work 4 times as large, so P R 16 times: worth 4 doublings, 20 s.
  std::vector<WaitingView> waiting = {Request(1, 2000), Request(2, 1000)};
  waiting[0].arrived = Seconds(79);
  waiting[1].arrived = Seconds(100);
  EXPECT_THAT(Order(*Make("aged-wspt"), Unlimited(), waiting), ElementsAre(1, 2));
  waiting[0].arrived = Seconds(81);
  EXPECT_THAT(Order(*Make("aged-wspt"), Unlimited(), waiting), ElementsAre(2, 1));
}

TEST(AgedWsptTest, OrdersPromptsUnderWayByWhatIsLeftOfThem) {
  const auto policy = Make("aged-wspt");
  RunningViews running;
  running.Add(3000);
  running.AddDecode();
  running.Add(500);
  RunningView& nearly_done = running.Add(10);
  nearly_done.first = Tokens(400);
  EXPECT_THAT(StepOf(*policy, PlainMachine(), running),
              ElementsAre(IndexAndCount(1, 1), IndexAndCount(3, 10), IndexAndCount(2, 500),
                          IndexAndCount(0, 513)));
}

TEST(AgedWsptTest, WeighsPromptsUnderWayByTheirFirstWork) {
  // Both have 300 tokens left after 200; one began with 500, the other had 200 cached.
  const auto policy = Make("aged-wspt");
  MachineView machine = PlainMachine();
  WaitingView large = Request(0, 500);
  WaitingView small = Request(1, 500);
  large.arrived = small.arrived = Seconds(99);
  small.on_device = Tokens(200);
  policy->OnAdmitted(machine, large, Choice());
  policy->OnAdmitted(machine, small, Choice());
  RunningViews running;
  running.Add(300).first = Tokens(200);
  running.Add(300).first = Tokens(200);
  EXPECT_THAT(StepOf(*policy, machine, running),
              ElementsAre(IndexAndCount(1, 300), IndexAndCount(0, 300)));
}

// ---- johnson ---------------------------------------------------------------------------------

TEST(JohnsonTest, ShortLoadsFirstThenLongComputesFirst) {
  const std::vector<WaitingView> waiting = {
      HostHit(1, 1000, 0.9, /*fresh=*/200),  // link-heavy, compute 0.2
      HostHit(2, 1000, 0.3, /*fresh=*/800),  // compute-heavy, load 0.3
      HostHit(3, 1000, 0.9, /*fresh=*/500),  // link-heavy, compute 0.5
      HostHit(4, 1000, 0.1, /*fresh=*/200),  // compute-heavy, load 0.1
  };
  EXPECT_THAT(Order(*Make("johnson"), Unlimited(), waiting), ElementsAre(4, 2, 3, 1));
}

// Johnson's rule is optimal for two machines: no order has a shorter makespan.
TEST(JohnsonTest, NoOtherOrderEndsEarlier) {
  const std::vector<WaitingView> waiting = {HostHit(0, 1000, 0.7, 200), HostHit(1, 1000, 0.3, 800),
                                            HostHit(2, 1000, 0.9, 500), HostHit(3, 1000, 0.1, 200),
                                            HostHit(4, 1000, 0.4, 450), Request(5, 300)};
  const auto makespan = [&waiting](const std::vector<int64_t>& order) {
    Seconds link, device;
    for (const int64_t i : order) {
      link += waiting[static_cast<size_t>(i)].load;
      device = std::max(device, link) + waiting[static_cast<size_t>(i)].compute;
    }
    return device;
  };
  const Seconds johnson = makespan(Order(*Make("johnson"), Unlimited(), waiting));
  std::vector<int64_t> order = {0, 1, 2, 3, 4, 5};
  do {
    EXPECT_GE(makespan(order).value(), johnson.value() - 1e-9);
  } while (std::next_permutation(order.begin(), order.end()));
}

}  // namespace
}  // namespace sluice::testing
