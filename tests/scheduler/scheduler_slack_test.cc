// Failures seen in other systems, under our policy: none of them may happen here.
#include "scheduler/scheduler.h"
#include "tests/scheduler/driver.h"

namespace sluice::testing {
namespace {

SchedulerOptions SlackOptions(int64_t device_blocks, int64_t host_blocks = 0) {
  SchedulerOptions options = SmallOptions(device_blocks, host_blocks);
  options.policy = "slack";
  options.refine_cost = false;
  return options;
}

std::vector<TokenId> Plus(std::vector<TokenId> tokens, int64_t id) {
  for (int i = 0; i < 6; ++i) tokens.push_back(static_cast<TokenId>(900000 + 10 * id + i));
  return tokens;
}

// vLLM #57841: pages 100/10/5 with 20 free: something must run.
TEST(SchedulerSlackTest, ABigHeadDoesNotBlockWhatFits) {
  SchedulerDriver d(SlackOptions(100));
  d.Submit(1, Document(1, 316), 4);  // 80 blocks, runs
  d.Step();
  d.Submit(2, Document(2, 396), 4);  // 100 blocks
  d.Submit(3, Document(3, 36), 4);   // 10 blocks
  d.Submit(4, Document(4, 16), 4);   // 5 blocks
  d.Step();
  d.Plan();
  EXPECT_TRUE(d.InPlan(3) || d.InPlan(4));
  d.Commit();
  d.Drain();
  for (int id = 1; id <= 4; ++id) EXPECT_EQ(d.FinishOf(id)->reason, FinishReason::kLength);
}

// vLLM #44294: 50 requests that share a prefix in flight. One computes it, nobody computes it
// again.
TEST(SchedulerSlackTest, FiftyRequestsForOnePrefixComputeItOnce) {
  SchedulerDriver d(SlackOptions(4000));
  const std::vector<TokenId> prefix = Document(1, 800);
  for (int id = 1; id <= 50; ++id) d.Submit(id, Plus(prefix, id), 2);
  d.Drain();
  int64_t computed = 0;
  for (int id = 1; id <= 50; ++id) {
    ASSERT_EQ(d.FinishOf(id)->reason, FinishReason::kLength);
    computed += d.FinishOf(id)->stats.computed.value();
  }
  EXPECT_EQ(computed, 806 + 49 * 6);
  EXPECT_GT(d.Count(Decision::kWaitJoin), 0);
}

// The one who computes the prefix goes away: those who waited for it go on without it.
TEST(SchedulerSlackTest, WaitersOutliveTheRequestTheyWaitFor) {
  SchedulerOptions options = SlackOptions(4000);
  options.step_token_limit = Tokens(100);
  SchedulerDriver d(options);
  const std::vector<TokenId> prefix = Document(1, 800);
  for (int id = 1; id <= 3; ++id) d.Submit(id, Plus(prefix, id), 2);
  d.Step();
  EXPECT_EQ(d.scheduler.stats().running, 1);
  d.scheduler.Cancel(RequestId(1), d.now);
  d.Drain();
  EXPECT_EQ(d.FinishOf(2)->reason, FinishReason::kLength);
  EXPECT_EQ(d.FinishOf(3)->reason, FinishReason::kLength);
}

// vLLM #37307: 4 x 100K fit, the fifth is admitted by its first chunk and everything thrashes.
TEST(SchedulerSlackTest, TheWholeNeedIsReservedSoNothingThrashes) {
  SchedulerDriver d(SlackOptions(100));
  for (int id = 1; id <= 5; ++id) d.Submit(id, Document(id, 60), 40);
  d.Drain();
  for (int id = 1; id <= 5; ++id) {
    EXPECT_EQ(d.FinishOf(id)->stats.preemptions, 0);
    EXPECT_EQ(d.FinishOf(id)->stats.recomputed, Tokens(0));
  }
}

// A deadline that even an empty machine would miss is refused at once.
TEST(SchedulerSlackTest, AHopelessDeadlineIsRefusedWithThePrediction) {
  SchedulerOptions options = SlackOptions(100);
  options.cost.per_token = Seconds(0.1);
  SchedulerDriver d(options);
  RequestSpec spec = d.Spec(1, Document(1, 60), 4);
  spec.first_token_deadline = d.now + absl::Seconds(1);
  EXPECT_THAT(d.scheduler.Submit(spec, d.now),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       ::testing::HasSubstr("first token is due in 1s and predicted in 6.")));
  EXPECT_EQ(d.Count(Decision::kRefuseDeadline), 1);
  spec.first_token_deadline = d.now + absl::Seconds(10);
  EXPECT_THAT(d.scheduler.Submit(spec, d.now), IsOk());
  d.Drain();
}

TEST(SchedulerSlackTest, ExplainSaysWhatWouldHappenAndChangesNothing) {
  SchedulerDriver d(SlackOptions(20, 100));
  d.Submit(1, Document(1, 40), 4);
  d.Drain();
  d.Submit(2, Document(2, 60), 4);  // pushes the first out to the host
  d.Drain();
  const int64_t evictions = d.scheduler.stats().device_evictions.value();
  const Explanation seen = d.scheduler.Explain(d.Spec(3, Plus(Document(1, 40), 3), 4), d.now);
  ASSERT_THAT(seen.status, IsOk());
  EXPECT_EQ(seen.prompt, Tokens(46));
  EXPECT_EQ(seen.on_device + seen.on_host, Tokens(40));
  EXPECT_GT(seen.on_host, Tokens(0));
  EXPECT_TRUE(seen.plans[static_cast<size_t>(RequestPlan::kLoad)].possible);
  EXPECT_FALSE(seen.plans[static_cast<size_t>(RequestPlan::kInPlace)].possible);
  EXPECT_LT(seen.predicted_ttft, absl::InfiniteDuration());
  EXPECT_TRUE(seen.fits_now);
  EXPECT_TRUE(d.scheduler.idle());
  EXPECT_EQ(d.scheduler.stats().device_evictions.value(), evictions);
  EXPECT_THAT(d.scheduler.Explain(d.Spec(4, Document(4, 500), 4), d.now).status,
              StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("KV blocks")));
}

// dynamo #6101: a disk slower than computing is not waited for.
TEST(SchedulerSlackTest, ASlowDiskIsNotWaitedFor) {
  SchedulerOptions options = SlackOptions(20, 20);
  options.disk_blocks = Blocks(200);
  options.cost.links[static_cast<size_t>(LinkDirection::kDiskToHost)].per_byte = Seconds(1);
  SchedulerDriver d(options);
  for (int id = 1; id <= 6; ++id) {
    d.Submit(id, Document(id, 60), 4);
    d.Drain();
  }
  ASSERT_GT(d.scheduler.stats().disk.cached, Blocks(0));
  d.Submit(7, Document(1, 60), 4);
  d.Plan();
  EXPECT_TRUE(d.InPlan(7));
  EXPECT_EQ(d.Count(Decision::kWaitStaging), 0);
  d.Commit();
  d.Drain();
}

// Documents of 60 tokens, 0.6 s to compute, the first of which are on a disk that should take less
// than 0.1 s for one.
SchedulerOptions QuickDiskOptions() {
  SchedulerOptions options = SlackOptions(20, 20);
  options.disk_blocks = Blocks(200);
  options.cost.per_token = Seconds(0.01);
  options.cost.kv_bytes_per_token = Bytes(16);
  options.cost.links[static_cast<size_t>(LinkDirection::kDiskToHost)] = {
      Seconds(1e-4), Seconds(0), Seconds(0)};  // 64 bytes a block
  return options;
}

void FillDisk(SchedulerDriver& d) {
  for (int id = 1; id <= 6; ++id) {
    d.Submit(id, Document(id, 60), 4);
    d.Drain();
  }
  ASSERT_GT(d.scheduler.stats().disk.cached, Blocks(0));
}

// A read that takes somewhat longer than its price is no reason to compute everything.
TEST(SchedulerSlackTest, ADiskThatIsLateIsWaitedForAndThenUsed) {
  SchedulerDriver d(QuickDiskOptions());
  FillDisk(d);
  d.Submit(7, Document(1, 60), 4);
  for (int i = 0; i < 4; ++i) {  // three times as long as predicted
    d.Plan();
    EXPECT_FALSE(d.InPlan(7)) << i;
    d.now += absl::Milliseconds(90);
  }
  EXPECT_EQ(d.Count(Decision::kWaitStaging), 4);
  d.EndSlowCopies(absl::Milliseconds(360));
  d.Drain();
  EXPECT_GE(CachedOn(*d.FinishOf(7), Tier::kDisk), Tokens(48));
}

TEST(SchedulerSlackTest, ADiskThatHangsIsNotWaitedForLongerThanComputingTakes) {
  SchedulerDriver d(QuickDiskOptions());
  FillDisk(d);
  d.Submit(7, Document(1, 60), 4);
  d.Plan();
  EXPECT_FALSE(d.InPlan(7));
  d.now += absl::Milliseconds(750);  // due after 0.1 s at most, computed in 0.6 s
  d.Plan();
  EXPECT_TRUE(d.InPlan(7));
  d.Commit();
  d.Drain();
}

// The front of a prefix was evicted, its end is still on the device: where loading is not worth it,
// the front alone is computed again.
TEST(SchedulerSlackTest, OnlyTheHoleInAPrefixIsComputedAgain) {
  SchedulerOptions options = SlackOptions(40, 100);
  options.cost.per_token = Seconds(0.0001);
  options.cost.links[static_cast<size_t>(LinkDirection::kHostToDevice)].per_byte = Seconds(10);
  SchedulerDriver d(options);
  d.Submit(1, Document(1, 40), 1);
  d.Drain();
  d.Submit(2, Plus(Document(1, 80), 2), 1);  // 12 blocks beyond the first ten
  d.Drain();
  d.Submit(3, Document(3, 100), 1);  // evicts, oldest use first: some of document 1
  d.Drain();
  const Explanation seen = d.scheduler.Explain(d.Spec(4, Plus(Document(1, 80), 4), 1), d.now);
  ASSERT_GT(seen.on_host, Tokens(0));
  ASSERT_GT(seen.on_device, Tokens(0));
  d.Submit(4, Plus(Document(1, 80), 4), 1);
  d.Drain();
  EXPECT_EQ(d.FinishOf(4)->stats.plan, RequestPlan::kRecompute);
  EXPECT_EQ(d.FinishOf(4)->stats.computed, seen.on_host + Tokens(6));
  EXPECT_EQ(d.FinishOf(4)->stats.loaded, Bytes(0));
}

// Blocks being stored cannot be evicted: no more at a time than the link drains in half a second.
TEST(SchedulerSlackTest, StoresArePacedToTheLink) {
  SchedulerOptions options = SlackOptions(1000, 1000);
  options.max_store_blocks = Blocks(500);
  options.cost.links[static_cast<size_t>(LinkDirection::kDeviceToHost)].per_byte =
      Seconds(0.5 / 64 / 20);  // 20 blocks of 64 bytes in half a second
  SchedulerDriver d(options);
  d.Submit(1, Document(1, 400), 1);
  d.Step();
  d.Plan();
  size_t storing = 0;
  for (const auto& [id, copy] : d.copies) storing += copy.blocks.size();
  EXPECT_GE(storing, 20U);
  EXPECT_LE(storing, 21U);
  d.Drain();
}

// Stores over a link too slow to load anything back are stopped (and tried again later).
TEST(SchedulerSlackTest, StoresThatCannotPayStop) {
  SchedulerOptions options = SlackOptions(60, 4000);
  options.cost.per_token = Seconds(0.0001);
  for (const LinkDirection way : {LinkDirection::kHostToDevice, LinkDirection::kDeviceToHost}) {
    options.cost.links[static_cast<size_t>(way)].per_byte = Seconds(0.01);
  }
  SchedulerDriver d(options);
  for (int id = 1; id <= 60; ++id) d.Submit(id, Document(id % 20, 200), 1);
  bool stopped = false;
  for (int i = 0; i < 1000 && !d.scheduler.idle(); ++i) {
    d.Step();
    stopped |= !d.scheduler.stats().offload_stores;
    d.now += absl::Seconds(5);
    d.EndSlowCopies(absl::Seconds(5));
  }
  EXPECT_TRUE(stopped);
  EXPECT_GT(d.Count(Decision::kStoreGated), 0);
  EXPECT_GT(d.scheduler.stats().offload_spent_s, d.scheduler.stats().offload_saved_s);
  d.Drain();
}

}  // namespace
}  // namespace sluice::testing
