// The promise of slack, on random loads: nobody waits for admission longer than it was told on
// arrival. Small patience and heavy overload make the bound bite.
#include "gtest/gtest.h"
#include "service/simulation/simulation.h"
#include "tests/service/simulation/small_setup.h"

namespace sluice {
namespace {

class WaitBoundPropertyTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(WaitBoundPropertyTest, NobodyWaitsLongerThanPromised) {
  int64_t overdue = 0;
  for (uint64_t seed = GetParam() * 10; seed < GetParam() * 10 + 10; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    SimulationOptions options = testing::SmallSimulation();
    options.scheduler.policy = "slack";
    options.scheduler.policy_options.patience = Seconds(seed % 2 == 0 ? 0.05 : 1.0);
    const double rate = 5.0 * static_cast<double>(1 + seed % 7);
    const auto requests = testing::SmallWorkload(seed, 80, rate, 1 + static_cast<int>(seed % 3));
    const absl::StatusOr<SimulationResult> result = Simulate(requests, options);
    ASSERT_TRUE(result.ok()) << result.status();
    for (const RequestRecord& r : result->requests) {
      ASSERT_TRUE(r.completed());
      ASSERT_LT(r.wait_bound, 1e6) << "a promise";
      EXPECT_LE(r.wait(), r.wait_bound);
    }
    overdue += result->scheduler.decisions[static_cast<size_t>(Decision::kAdmitOverdue)];
  }
  EXPECT_GT(overdue, 0) << "the bound never mattered";
}

INSTANTIATE_TEST_SUITE_P(Seeds, WaitBoundPropertyTest, ::testing::Range<uint64_t>(0, 10),
                         [](const auto& group) { return "Group" + std::to_string(group.param); });

}  // namespace
}  // namespace sluice
