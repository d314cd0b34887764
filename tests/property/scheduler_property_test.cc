// Random schedules against the content oracle of scheduler_world.h.
#include <string>

#include "gtest/gtest.h"
#include "tests/property/scheduler_world.h"

namespace sluice::testing {
namespace {

constexpr uint64_t kSeedsPerCase = 500;

class SchedulerPropertyTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(SchedulerPropertyTest, NeverReadsForeignKvAndEndsEveryRequestOnce) {
  for (uint64_t i = 0; i < kSeedsPerCase; ++i) {
    const uint64_t seed = GetParam() * kSeedsPerCase + i;
    SchedulerWorld world(RandomWorldOptions(seed), seed);
    ASSERT_EQ(world.Run(), "") << "seed " << seed;
  }
}

TEST_P(SchedulerPropertyTest, StepsPlannedAheadChangeNoTokenAndLeaveNothing) {
  for (uint64_t i = 0; i < kSeedsPerCase; ++i) {
    const uint64_t seed = GetParam() * kSeedsPerCase + i;
    WorldOptions options = RandomWorldOptions(seed);
    options.ahead = seed % 3 == 0 ? 1.0 : 0.6;
    SchedulerWorld world(options, seed);
    ASSERT_EQ(world.Run(), "") << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SchedulerPropertyTest, ::testing::Range<uint64_t>(0, 20),
                         [](const auto& group) { return "Group" + std::to_string(group.param); });

TEST(SchedulerDeterminismTest, SameCallsGiveTheSameDecisions) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SchedulerWorld first(RandomWorldOptions(seed), seed);
    SchedulerWorld second(RandomWorldOptions(seed), seed);
    ASSERT_EQ(first.Run(), "") << "seed " << seed;
    ASSERT_EQ(second.Run(), "") << "seed " << seed;
    EXPECT_EQ(first.trace(), second.trace()) << "seed " << seed;
  }
}

// Ahead or not: every kind of end, queues that wait beside, results that nobody wants any more.
TEST(SchedulerCoverageTest, RandomSchedulesPlanAheadInEverySituation) {
  int64_t steps = 0;
  int64_t discarded = 0;
  std::array<int64_t, kFinishReasonCount> finished{};
  for (uint64_t seed = 0; seed < 900; ++seed) {
    WorldOptions options = RandomWorldOptions(seed);
    options.ahead = 1;
    SchedulerWorld world(options, seed);
    ASSERT_EQ(world.Run(), "") << "seed " << seed;
    steps += world.final_stats().steps_ahead;
    discarded += world.discarded();
    for (size_t i = 0; i < finished.size(); ++i) finished[i] += world.final_stats().finished[i];
  }
  EXPECT_GT(steps, 10000);
  EXPECT_GT(discarded, 500);
  for (size_t i = 0; i < finished.size(); ++i) EXPECT_GT(finished[i], 20) << "reason " << i;
}

// The random schedules are only worth something if they get everywhere.
TEST(SchedulerCoverageTest, RandomSchedulesReachEveryDecisionAndEnd) {
  std::array<int64_t, kDecisionCount> decisions{};
  std::array<int64_t, kFinishReasonCount> finished{};
  Blocks device_evictions;
  Blocks host_evictions;
  Tokens from_host;
  Tokens recomputed;
  Blocks yielded;
  Blocks evicted;
  for (uint64_t seed = 0; seed < 900; ++seed) {
    SchedulerWorld world(RandomWorldOptions(seed), seed);
    ASSERT_EQ(world.Run(), "") << "seed " << seed;
    const SchedulerStats& stats = world.final_stats();
    for (size_t i = 0; i < decisions.size(); ++i) decisions[i] += stats.decisions[i];
    for (size_t i = 0; i < finished.size(); ++i) finished[i] += stats.finished[i];
    device_evictions += stats.device_evictions;
    host_evictions += stats.host_evictions;
    from_host += stats.prompt_tokens_cached[static_cast<size_t>(Tier::kHost)];
    recomputed += stats.tokens_recomputed;
    yielded += stats.moves.pins_yielded;
    evicted += stats.moves.evicted_on_request;
  }
  for (size_t i = 0; i < decisions.size(); ++i) {
    EXPECT_GT(decisions[i], 0) << DecisionName(static_cast<Decision>(i));
  }
  for (size_t i = 0; i < finished.size(); ++i) EXPECT_GT(finished[i], 20) << "reason " << i;
  EXPECT_GT(device_evictions, Blocks(1000));
  EXPECT_GT(host_evictions, Blocks(100));
  EXPECT_GT(from_host, Tokens(1000));
  EXPECT_GT(recomputed, Tokens(100));
  EXPECT_GT(yielded, Blocks(100));
  EXPECT_GT(evicted, Blocks(1000));
}

}  // namespace
}  // namespace sluice::testing
