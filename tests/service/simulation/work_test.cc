// Work worked out by hand: 1 ms launch, 3 ms of weights, 10 µs per token, 1 µs per pair; a context
// token is 100 bytes, 1 byte per µs on the link, 1 ms latency.
#include "service/simulation/work.h"

#include "gtest/gtest.h"

namespace sluice {
namespace {

CostCoefficients Cost() {
  CostCoefficients cost;
  cost.launch = Seconds(1e-3);
  cost.floor = Seconds(0);
  cost.per_context_token = Seconds(0);
  cost.weight_read = Seconds(3e-3);
  cost.per_token = Seconds(10e-6);
  cost.per_pair = Seconds(1e-6);
  cost.layers = 4;
  for (LinkCoefficients& link : cost.links) link = {Seconds(1e-6), Seconds(0), Seconds(1e-3)};
  cost.kv_bytes_per_token = Bytes(100);
  return cost;
}

WorkLimits Limits() {
  WorkLimits limits;
  limits.step_tokens = Tokens(1000);
  limits.max_running = 10;
  return limits;
}

TEST(WorkTest, OnePromptIsItsStepsWork) {
  WorkItem item;
  item.fresh = Tokens(1000);
  item.output = Tokens(1);
  const Work work = WorkOf(Cost(), Limits(), {item});
  EXPECT_NEAR(work.compute.value(), 1e-3 + 10e-3 + 500.5e-3, 1e-12);
  EXPECT_EQ(work.link.value(), 0);
  EXPECT_NEAR(work.write_back.value(), 1e-3 + 0.1, 1e-12);
  EXPECT_DOUBLE_EQ(work.Bound().value(), work.compute.value());
}

TEST(WorkTest, DecodesShareTheirStepsUpToTheBatchLimit) {
  WorkItem item;
  item.on_device = Tokens(100);
  item.fresh = Tokens(1);
  item.output = Tokens(101);
  // 20 x 100 decodes at 10 a step: 200 steps of 1 + 3 ms. Attention: 101 + 100 x 152 pairs each.
  const Work work = WorkOf(Cost(), Limits(), std::vector<WorkItem>(20, item));
  EXPECT_NEAR(work.compute.value(), 200 * 4e-3 + 20 * (101 + 100 * 152) * 1e-6, 1e-9);
}

TEST(WorkTest, MemoryLimitsTheBatchIfGiven) {
  WorkItem item;
  item.on_device = Tokens(100);
  item.fresh = Tokens(1);
  item.output = Tokens(101);
  item.held = Tokens(250);
  WorkLimits limits = Limits();
  limits.device_tokens = Tokens(500);  // two at a time: 1,000 steps
  const Work work = WorkOf(Cost(), limits, std::vector<WorkItem>(20, item));
  EXPECT_NEAR(work.compute.value(), 1000 * 4e-3 + 20 * (101 + 100 * 152) * 1e-6, 1e-9);
}

TEST(WorkTest, TheBoundSplitsWhatTheLinkCannotCarry) {
  WorkItem item;
  item.on_host = Tokens(5000);
  item.fresh = Tokens(1);
  CostCoefficients cost = Cost();
  cost.per_pair = Seconds(0);
  const Work work = WorkOf(cost, Limits(), {item});
  EXPECT_NEAR(work.link.value(), 0.501, 1e-12);
  EXPECT_NEAR(work.recompute.value(), 0.05, 1e-12);
  EXPECT_NEAR(work.compute.value(), 1e-6 + 10e-6, 1e-12);  // a thousandth of a full step
  const double bound = work.Bound().value();
  EXPECT_LT(bound, work.link.value());
  // At the balance, what is still loaded takes as long as what is computed.
  const double share = (bound - work.compute.value()) / work.recompute.value();
  EXPECT_NEAR(work.link.value() * (1 - share), bound, 1e-12);
}

TEST(WorkTest, AloneTheLoadOverlapsThePrefill) {
  WorkItem item;
  item.fresh = Tokens(10);
  item.on_host = Tokens(1000);
  const double compute = 1e-3 + 3e-3 + (10.0 * 1000 + 55) * 1e-6;
  const double load = 1e-3 + 0.1;
  EXPECT_NEAR(AloneTtft(Cost(), Tokens(1000), item).value(), load + compute / 4, 1e-12);
  item.on_disk = Tokens(500);
  item.on_host = Tokens(500);
  EXPECT_NEAR(AloneTtft(Cost(), Tokens(1000), item).value(), load + compute / 4, 1e-12);
  item.on_device = Tokens(1000);
  item.on_disk = item.on_host = Tokens(0);
  EXPECT_NEAR(AloneTtft(Cost(), Tokens(1000), item).value(), compute, 1e-12);
}

}  // namespace
}  // namespace sluice
