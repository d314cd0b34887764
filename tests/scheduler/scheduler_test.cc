// The life of requests: queue, steps, tokens, ends. KV placement: scheduler_kv_test.cc.
#include "scheduler/scheduler.h"

#include "tests/scheduler/driver.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(SchedulerTest, OneRequestYieldsItsTokensAndEndsForLength) {
  SchedulerDriver d(SmallOptions(10));
  d.Submit(1, Document(1, 6), 3);
  EXPECT_FALSE(d.scheduler.idle());
  for (int i = 0; i < 3; ++i) d.Step();
  EXPECT_THAT(d.TokensOf(1), ElementsAre(500, 501, 502));
  ASSERT_NE(d.FinishOf(1), nullptr);
  EXPECT_EQ(d.FinishOf(1)->reason, FinishReason::kLength);
  EXPECT_THAT(d.FinishOf(1)->status, IsOk());
  EXPECT_EQ(d.events.size(), 3U) << "the last token and the end are one event";
  EXPECT_TRUE(d.scheduler.idle());
  EXPECT_THAT(d.Plan().sequences, IsEmpty());
}

TEST(SchedulerTest, StopTokenIsEmittedCountedAndEndsTheRequest) {
  SchedulerDriver d(SmallOptions(10));
  RequestSpec spec = d.Spec(1, Document(1, 6), 9);
  auto sampling = std::make_shared<SamplingParams>();
  sampling->stop_ids = {501};
  spec.sampling = sampling;
  ASSERT_THAT(d.scheduler.Submit(spec, d.now), IsOk());
  d.Drain();
  EXPECT_THAT(d.TokensOf(1), ElementsAre(500, 501));
  EXPECT_EQ(d.FinishOf(1)->reason, FinishReason::kStop);
  EXPECT_EQ(d.FinishOf(1)->stats.output, Tokens(2));
}

TEST(SchedulerTest, LongPromptIsSplitAndDecodesGoFirst) {
  SchedulerOptions options = SmallOptions(100);
  options.step_token_limit = Tokens(10);
  SchedulerDriver d(options);
  d.Submit(1, Document(1, 4), 20);
  d.Step();
  d.Submit(2, Document(2, 25), 2);
  const StepPlan& plan = d.Plan();
  ASSERT_THAT(plan.sequences, SizeIs(2));
  EXPECT_EQ(plan.sequences[0].request, RequestId(1));
  EXPECT_EQ(plan.sequences[0].count, Tokens(1));
  EXPECT_EQ(plan.sequences[1].count, Tokens(9));
  EXPECT_FALSE(plan.sequences[1].sample);
  d.Commit();
  d.Step();
  d.Plan();
  ASSERT_THAT(plan.sequences, SizeIs(2));
  EXPECT_EQ(plan.sequences[1].first, Tokens(18));
  EXPECT_EQ(plan.sequences[1].count, Tokens(7));
  EXPECT_TRUE(plan.sequences[1].sample);
  d.Commit();
  EXPECT_THAT(d.TokensOf(2), ElementsAre(500));
}

TEST(SchedulerTest, RequestsThatCanNeverFitAreRefusedAtOnce) {
  SchedulerDriver d(SmallOptions(5));
  EXPECT_THAT(d.scheduler.Submit(d.Spec(1, Document(1, 20), 1), d.now),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("needs 6 KV blocks (prompt of 20 + max_new of 1 tokens); the "
                                 "device has 5")));
  EXPECT_THAT(d.scheduler.Submit(d.Spec(1, Document(1, 1000), 1), d.now),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_model_len of 1000")));
  EXPECT_THAT(d.scheduler.Submit(d.Spec(1, {}, 1), d.now),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prompt")));
  EXPECT_THAT(d.scheduler.Submit(d.Spec(1, Document(1, 3), 0), d.now),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_new: 0")));
  EXPECT_EQ(d.Count(Decision::kRefuseNeverFits), 4);
  EXPECT_TRUE(d.scheduler.idle());
  d.Submit(1, Document(1, 19), 1);
  d.Drain();
  EXPECT_EQ(d.FinishOf(1)->reason, FinishReason::kLength);
}

TEST(SchedulerTest, FullQueueAndLiveIdsAreRefused) {
  SchedulerOptions options = SmallOptions(10);
  options.queue_limit = 2;
  SchedulerDriver d(options);
  d.Submit(1, Document(1, 3));
  EXPECT_THAT(d.scheduler.Submit(d.Spec(1, Document(1, 3)), d.now),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("1")));
  d.Submit(2, Document(1, 3));
  EXPECT_THAT(d.scheduler.Submit(d.Spec(3, Document(1, 3)), d.now),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("2 requests waiting (limit 2); retry later")));
  EXPECT_EQ(d.Count(Decision::kRefuseQueueFull), 1);
}

TEST(SchedulerTest, AnEndedIdCanBeUsedAgainEvenDuringItsLastStep) {
  SchedulerDriver d(SmallOptions(10));
  d.Submit(1, Document(1, 3), 5);
  d.Plan();
  d.scheduler.Cancel(RequestId(1), d.now);
  d.Submit(1, Document(2, 3), 2);
  d.Commit();
  EXPECT_EQ(d.FinishOf(1)->reason, FinishReason::kCancelled);
  EXPECT_THAT(d.TokensOf(1), IsEmpty());
  d.Drain();
  EXPECT_THAT(d.TokensOf(1), ElementsAre(500, 501));
}

TEST(SchedulerTest, HigherPriorityIsAdmittedFirstThenArrivalOrder) {
  SchedulerOptions options = SmallOptions(100);
  options.max_running = 1;
  options.preemption = false;
  SchedulerDriver d(options);
  d.Submit(1, Document(1, 3));
  d.Submit(2, Document(2, 3), 1, /*priority=*/5);
  d.Submit(3, Document(3, 3), 1, /*priority=*/5);
  d.Drain();
  std::vector<int64_t> order;
  for (const Event& event : d.events) order.push_back(event.request.value());
  EXPECT_THAT(order, ElementsAre(2, 3, 1));
}

TEST(SchedulerTest, DeadlineEndsOnlyRequestsThatWereNeverAdmitted) {
  SchedulerOptions options = SmallOptions(100);
  options.max_running = 1;
  SchedulerDriver d(options);
  EXPECT_EQ(d.scheduler.NextWakeup(), absl::InfiniteFuture());
  RequestSpec first = d.Spec(1, Document(1, 3), 9);
  first.first_token_deadline = d.now + absl::Milliseconds(15);
  RequestSpec second = d.Spec(2, Document(2, 3), 9);
  second.first_token_deadline = d.now + absl::Milliseconds(20);
  ASSERT_THAT(d.scheduler.Submit(first, d.now), IsOk());
  ASSERT_THAT(d.scheduler.Submit(second, d.now), IsOk());
  EXPECT_EQ(d.scheduler.NextWakeup(), absl::UnixEpoch() + absl::Milliseconds(15));
  d.Step();
  EXPECT_EQ(d.scheduler.NextWakeup(), absl::UnixEpoch() + absl::Milliseconds(20));
  d.Step();
  d.Step();
  ASSERT_NE(d.FinishOf(2), nullptr);
  EXPECT_EQ(d.FinishOf(2)->reason, FinishReason::kDeadline);
  EXPECT_THAT(d.FinishOf(2)->status,
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("20ms in the queue")));
  EXPECT_EQ(d.FinishOf(1), nullptr);
  EXPECT_EQ(d.scheduler.NextWakeup(), absl::InfiniteFuture());
}

TEST(SchedulerTest, CancelFreesTheBlocksOfWaitingRunningAndStepping) {
  SchedulerOptions options = SmallOptions(100);
  options.max_running = 1;
  SchedulerDriver d(options);
  d.Submit(1, Document(1, 30), 9);
  d.Submit(2, Document(2, 30), 9);
  d.Plan();
  d.scheduler.Cancel(RequestId(2), d.now);
  d.scheduler.Cancel(RequestId(1), d.now);
  d.scheduler.Cancel(RequestId(77), d.now);
  EXPECT_TRUE(d.scheduler.idle());
  EXPECT_GT(d.scheduler.stats().device.referenced, Blocks(0)) << "the step still uses them";
  d.Commit();
  EXPECT_EQ(d.scheduler.stats().device.referenced, Blocks(0));
  EXPECT_EQ(d.scheduler.stats().reserved, Blocks(0));
  EXPECT_EQ(d.FinishOf(1)->reason, FinishReason::kCancelled);
  EXPECT_EQ(d.FinishOf(2)->reason, FinishReason::kCancelled);
}

TEST(SchedulerTest, FailedStepEndsItsSequencesWithItsStatus) {
  SchedulerDriver d(SmallOptions(100));
  d.Submit(1, Document(1, 6), 9);
  d.Submit(2, Document(2, 6), 9);
  d.Plan();
  StepResult failed;
  failed.id = d.plan.id;
  failed.status = absl::UnavailableError("device lost");
  d.Commit(failed);
  for (const int64_t id : {1, 2}) {
    ASSERT_NE(d.FinishOf(id), nullptr);
    EXPECT_EQ(d.FinishOf(id)->reason, FinishReason::kError);
    EXPECT_THAT(d.FinishOf(id)->status, StatusIs(absl::StatusCode::kUnavailable, "device lost"));
  }
  EXPECT_EQ(d.scheduler.stats().device.free, Blocks(100)) << "nothing half-computed is cached";
}

TEST(SchedulerTest, FailedSequenceWithoutLoadsEndsAlone) {
  SchedulerDriver d(SmallOptions(100));
  d.Submit(1, Document(1, 6), 2);
  d.Submit(2, Document(2, 6), 2);
  d.Plan();
  StepResult result = d.GoodResult();
  result.sequences[0] = {};
  result.sequences[0].status = absl::InternalError("not a number");
  d.Commit(result);
  EXPECT_EQ(d.FinishOf(1)->reason, FinishReason::kError);
  d.Drain();
  EXPECT_EQ(d.FinishOf(2)->reason, FinishReason::kLength);
}

TEST(SchedulerTest, FourFitAndTheFifthWaitsWithoutThrashing) {
  // Each needs 25 of 100 blocks in the end, though its prompt needs only 15.
  SchedulerOptions options = SmallOptions(100);
  SchedulerDriver d(options);
  for (int id = 1; id <= 5; ++id) d.Submit(id, Document(id, 60), 40);
  d.Plan();
  EXPECT_EQ(d.scheduler.stats().running, 4);
  EXPECT_EQ(d.scheduler.stats().waiting, 1);
  d.Commit();
  d.Drain();
  for (int id = 1; id <= 5; ++id) {
    EXPECT_EQ(d.FinishOf(id)->reason, FinishReason::kLength);
    EXPECT_EQ(d.FinishOf(id)->stats.preemptions, 0);
    EXPECT_EQ(d.FinishOf(id)->stats.recomputed, Tokens(0));
  }
  EXPECT_GT(d.Count(Decision::kWaitBlocks), 0);
}

TEST(SchedulerTest, HigherPriorityPreemptsAndNoTokenIsEmittedTwice) {
  SchedulerDriver d(SmallOptions(10));
  d.Submit(1, Document(1, 10), 20);  // 8 blocks
  for (int i = 0; i < 5; ++i) d.Step();
  d.Submit(2, Document(2, 10), 10, /*priority=*/1);  // 5 blocks
  d.Plan();
  EXPECT_TRUE(d.InPlan(2));
  EXPECT_FALSE(d.InPlan(1));
  EXPECT_EQ(d.Count(Decision::kPreemptRecompute), 1) << "there is no host tier to swap to";
  d.Commit();
  d.Drain();
  EXPECT_THAT(d.TokensOf(1), SizeIs(20));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(d.TokensOf(1)[static_cast<size_t>(i)], 500 + i);
  EXPECT_EQ(d.FinishOf(1)->stats.preemptions, 1);
  EXPECT_EQ(d.FinishOf(2)->stats.preemptions, 0);
}

TEST(SchedulerTest, NothingIsPreemptedInVainOrByEquals) {
  SchedulerDriver d(SmallOptions(10));
  d.Submit(1, Document(1, 10), 10, /*priority=*/2);  // 5 blocks
  d.Submit(2, Document(2, 3), 10, /*priority=*/0);   // 4 blocks
  d.Step();
  d.Submit(3, Document(3, 25), 10, /*priority=*/1);  // 9 blocks: 2's would not do
  d.Step();
  EXPECT_EQ(d.scheduler.stats().running, 2);
  d.Submit(4, Document(3, 10), 10, /*priority=*/2);  // 5 blocks: 2's will do, 1 is an equal
  d.Plan();
  EXPECT_TRUE(d.InPlan(1));
  EXPECT_TRUE(d.InPlan(4));
  EXPECT_FALSE(d.InPlan(2));
  d.Commit();
  d.Drain();
}

TEST(SchedulerTest, StatsAddUp) {
  SchedulerDriver d(SmallOptions(20));
  d.Submit(1, Document(1, 10), 4);
  d.Drain();
  const RequestStats& stats = d.FinishOf(1)->stats;
  EXPECT_EQ(stats.prompt, Tokens(10));
  EXPECT_EQ(stats.computed, Tokens(10));
  EXPECT_EQ(stats.output, Tokens(4));
  EXPECT_EQ(stats.compute, absl::Milliseconds(40));
  EXPECT_EQ(stats.arrival, absl::UnixEpoch());
  EXPECT_EQ(stats.admitted, absl::UnixEpoch());
  EXPECT_EQ(stats.first_token, absl::UnixEpoch() + absl::Milliseconds(10));
  EXPECT_EQ(stats.finished, absl::UnixEpoch() + absl::Milliseconds(40));
  EXPECT_EQ(stats.plan, RequestPlan::kResident);
  const SchedulerStats all = d.scheduler.stats();
  EXPECT_EQ(all.output_tokens, Tokens(4));
  EXPECT_EQ(all.prompt_tokens_computed, Tokens(10));
  EXPECT_EQ(all.finished[static_cast<size_t>(FinishReason::kLength)], 1);
}

TEST(SchedulerOptionsTest, NamesTheFieldTheValueAndTheRange) {
  EXPECT_THAT(SchedulerOptions().Validate(), IsOk());
  SchedulerOptions options;
  options.step_token_limit = Tokens(0);
  EXPECT_THAT(options.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("step_token_limit: 0 is not in [1, ")));
  options = SchedulerOptions();
  options.geometry.tokens_per_block = Tokens(-1);
  EXPECT_THAT(options.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("geometry.tokens_per_block: -1")));
}

}  // namespace
}  // namespace sluice::testing
