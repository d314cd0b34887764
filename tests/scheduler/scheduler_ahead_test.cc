// PlanAhead(), case by case. Random schedules: tests/property.
#include <memory>
#include <utility>

#include "tests/scheduler/driver.h"

namespace sluice::testing {
namespace {

// A driver whose plans may overlap.
class SchedulerAheadTest : public ::testing::Test {
 protected:
  // Plans ahead. Returns whether anything was planned.
  bool Ahead() {
    plans_.push_back(driver_.plan);
    driver_.plan = driver_.scheduler.PlanAhead(driver_.now);
    EXPECT_THAT(driver_.scheduler.CheckInvariants(), IsOk());
    if (!driver_.plan.sequences.empty()) return true;
    EXPECT_TRUE(driver_.plan.copies.empty());
    driver_.plan = std::move(plans_.back());
    plans_.pop_back();
    return false;
  }

  StepResult ResultOfOldest() {
    std::swap(driver_.plan, plans_.front());
    const StepResult result = driver_.GoodResult();
    std::swap(driver_.plan, plans_.front());
    return result;
  }

  // Commits the older of two steps under way.
  void CommitOldest(const StepResult& result) {
    plans_.erase(plans_.begin());
    driver_.Commit(result);
  }
  void CommitOldest() { CommitOldest(ResultOfOldest()); }

  void SubmitWith(int64_t id, int64_t max_new, SamplingParams params) {
    RequestSpec spec = driver_.Spec(id, Document(static_cast<int>(id), 6), max_new);
    spec.sampling = std::make_shared<const SamplingParams>(std::move(params));
    EXPECT_THAT(driver_.scheduler.Submit(std::move(spec), driver_.now), IsOk());
  }

  SchedulerDriver driver_{SmallOptions(40)};
  std::vector<StepPlan> plans_;  // under way, without the newest
};

TEST_F(SchedulerAheadTest, ADecodeGoesOnBeforeItsTokenIsKnown) {
  driver_.Submit(1, Document(1, 6), 4);
  driver_.Submit(2, Document(2, 7), 4);
  driver_.Plan();
  ASSERT_TRUE(Ahead());
  ASSERT_EQ(driver_.plan.sequences.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const SequenceWork& work = driver_.plan.sequences[i];
    EXPECT_EQ(work.previous_row, static_cast<int32_t>(i));
    EXPECT_EQ(work.first, Tokens(6 + static_cast<int64_t>(i)));
    EXPECT_EQ(work.count, Tokens(1));
    EXPECT_EQ(work.tokens.size(), work.first.size());
    EXPECT_TRUE(work.sample);
    EXPECT_EQ(work.output_index, 1);
  }
  EXPECT_GT(driver_.plan.id, plans_[0].id);
  CommitOldest();
  EXPECT_EQ(driver_.TokensOf(1), (std::vector<TokenId>{500}));
  ASSERT_TRUE(Ahead());
  CommitOldest();
  ASSERT_TRUE(Ahead());
  CommitOldest();
  // All that is left ends with the tokens under way.
  EXPECT_FALSE(Ahead());
  driver_.Commit();
  EXPECT_EQ(driver_.TokensOf(2), (std::vector<TokenId>{500, 501, 502, 503}));
  EXPECT_EQ(driver_.FinishOf(2)->reason, FinishReason::kLength);
  EXPECT_EQ(driver_.scheduler.stats().steps_ahead, 3);
  EXPECT_TRUE(driver_.scheduler.idle());
}

TEST_F(SchedulerAheadTest, PromptsGoOnInChunksBesideDecodes) {
  SchedulerOptions options = SmallOptions(40);
  options.step_token_limit = Tokens(8);
  SchedulerDriver driver(options);
  driver.Submit(1, Document(1, 4), 8);
  driver.Submit(2, Document(2, 20), 8);
  driver.Plan();
  ASSERT_EQ(driver.plan.sequences.size(), 2u);
  EXPECT_EQ(driver.plan.sequences[1].count, Tokens(4));
  const StepResult first = driver.GoodResult();
  driver.plan = driver.scheduler.PlanAhead(driver.now);
  ASSERT_EQ(driver.plan.sequences.size(), 2u);
  EXPECT_EQ(driver.plan.sequences[0].previous_row, 0);
  EXPECT_EQ(driver.plan.sequences[1].previous_row, -1);
  EXPECT_EQ(driver.plan.sequences[1].first, Tokens(4));
  EXPECT_EQ(driver.plan.sequences[1].count, Tokens(7));
  EXPECT_FALSE(driver.plan.sequences[1].sample);
  const StepResult second = driver.GoodResult();
  driver.Commit(first);
  driver.Commit(second);
  driver.Drain();
  EXPECT_EQ(driver.TokensOf(2).size(), 8u);
}

TEST_F(SchedulerAheadTest, WhoEndsUnexpectedlyGivesItsBlocksBackAfterTheStepBehind) {
  SamplingParams params;
  params.stop_ids = {501};
  SubmitWith(1, 10, params);
  driver_.Step();
  driver_.Plan();
  ASSERT_TRUE(Ahead());
  CommitOldest();  // draws 501
  ASSERT_NE(driver_.FinishOf(1), nullptr);
  EXPECT_EQ(driver_.FinishOf(1)->reason, FinishReason::kStop);
  EXPECT_TRUE(driver_.scheduler.idle());
  EXPECT_GT(driver_.scheduler.stats().device.referenced, Blocks(0));
  const size_t events = driver_.events.size();
  driver_.Commit();
  EXPECT_EQ(driver_.events.size(), events);
  EXPECT_EQ(driver_.scheduler.stats().device.referenced, Blocks(0));
}

TEST_F(SchedulerAheadTest, ACancelEndsAtOnceWhateverIsUnderWay) {
  driver_.Submit(1, Document(1, 6), 10);
  driver_.Submit(2, Document(2, 6), 10);
  driver_.Plan();
  ASSERT_TRUE(Ahead());
  driver_.scheduler.Cancel(RequestId(1), driver_.now);
  EXPECT_THAT(driver_.scheduler.CheckInvariants(), IsOk());
  const Blocks held = driver_.scheduler.stats().device.referenced;
  CommitOldest();
  EXPECT_EQ(driver_.FinishOf(1)->reason, FinishReason::kCancelled);
  EXPECT_TRUE(driver_.TokensOf(1).empty());
  EXPECT_EQ(driver_.scheduler.stats().device.referenced, held);
  ASSERT_TRUE(Ahead());
  ASSERT_EQ(driver_.plan.sequences.size(), 1u);
  EXPECT_EQ(driver_.plan.sequences[0].previous_row, 1);
  CommitOldest();
  EXPECT_LT(driver_.scheduler.stats().device.referenced, held);
  driver_.Commit();
  driver_.Drain();
  EXPECT_EQ(driver_.TokensOf(2).size(), 10u);
}

TEST_F(SchedulerAheadTest, AFailedStepEndsItsRequestsAndTheStepBehindGivesThemNothing) {
  driver_.Submit(1, Document(1, 6), 10);
  driver_.Plan();
  ASSERT_TRUE(Ahead());
  StepResult failed = ResultOfOldest();
  failed.sequences.clear();
  failed.status = absl::InternalError("a bad launch");
  CommitOldest(failed);
  EXPECT_EQ(driver_.FinishOf(1)->reason, FinishReason::kError);
  driver_.Commit();  // as if that step had gone well
  EXPECT_TRUE(driver_.TokensOf(1).empty());
  EXPECT_EQ(driver_.scheduler.stats().device.referenced, Blocks(0));
}

TEST_F(SchedulerAheadTest, WhoCouldBeAdmittedIsNotMadeToWait) {
  driver_.Submit(1, Document(1, 6), 10);
  driver_.Plan();
  driver_.Submit(2, Document(2, 6), 10);
  EXPECT_FALSE(Ahead());
  driver_.Commit();
  driver_.Plan();
  EXPECT_TRUE(driver_.InPlan(2));
}

// Nobody can be admitted, so there is nothing to wait for, for a while.
TEST_F(SchedulerAheadTest, ABlockedQueueIsLookedAtNowAndThen) {
  SchedulerDriver driver(SmallOptions(16));
  driver.Submit(1, Document(1, 6), 50);
  driver.Submit(2, Document(2, 6), 50);
  driver.Plan();
  ASSERT_FALSE(driver.InPlan(2));
  int ahead = 0;
  for (bool planned = true; planned; ++ahead) {
    const StepResult result = driver.GoodResult();
    driver.plan = driver.scheduler.PlanAhead(driver.now);
    planned = !driver.plan.sequences.empty();
    driver.Commit(result);
  }
  EXPECT_GT(ahead, 10);
  EXPECT_LE(ahead, 17);
  driver.Drain();
  EXPECT_EQ(driver.TokensOf(2).size(), 50u);
}

TEST_F(SchedulerAheadTest, PenaltiesNeedTheTokenFirst) {
  SamplingParams params;
  params.presence_penalty = 0.5F;
  SubmitWith(1, 3, params);
  driver_.Plan();
  EXPECT_FALSE(Ahead());
  driver_.Commit();
  driver_.Drain();
  EXPECT_EQ(driver_.TokensOf(1).size(), 3u);
}

TEST_F(SchedulerAheadTest, NothingIsPlannedBesideAStepThatWaitsForLoads) {
  SchedulerDriver driver(SmallOptions(12, 40));
  driver.Submit(1, Document(1, 40), 1);
  driver.Drain();
  driver.Submit(2, Document(2, 40), 1);  // evicts the first
  driver.Drain();
  driver.Submit(3, Document(1, 40), 4);
  driver.Plan();
  ASSERT_EQ(driver.plan.sequences.size(), 1u);
  ASSERT_FALSE(driver.plan.sequences[0].loads.empty());
  EXPECT_TRUE(driver.scheduler.PlanAhead(driver.now).sequences.empty());
  driver.EndCopies();
  EXPECT_TRUE(driver.scheduler.PlanAhead(driver.now).sequences.empty());
  driver.Commit();
  driver.Plan();
  EXPECT_FALSE(driver.scheduler.PlanAhead(driver.now).sequences.empty());
}

// What a step has filled is stored with the next plan, be it ahead.
TEST_F(SchedulerAheadTest, BlocksAreStoredWhileStepsArePlannedAhead) {
  SchedulerDriver driver(SmallOptions(12, 40));
  driver.Submit(1, Document(1, 8), 8);
  driver.Plan();
  const StepResult first = driver.GoodResult();
  driver.plan = driver.scheduler.PlanAhead(driver.now);
  ASSERT_FALSE(driver.plan.sequences.empty());
  EXPECT_TRUE(driver.plan.copies.empty());
  const StepResult second = driver.GoodResult();
  driver.Commit(first);
  driver.plan = driver.scheduler.PlanAhead(driver.now);
  ASSERT_EQ(driver.plan.copies.size(), 1u);
  EXPECT_EQ(driver.plan.copies[0].direction, LinkDirection::kDeviceToHost);
  EXPECT_EQ(driver.plan.copies[0].blocks.size(), 2u);
  driver.copies.emplace(driver.plan.copies[0].id, driver.plan.copies[0]);
  const StepResult third = driver.GoodResult();
  driver.Commit(second);
  driver.Commit(third);
  driver.Drain();
}

}  // namespace
}  // namespace sluice::testing
