// Random schedules of KvCache calls against the content oracle of kv_world.h.
#include <string>

#include "gtest/gtest.h"
#include "tests/property/kv_world.h"

namespace sluice::testing {
namespace {

constexpr uint64_t kSeedsPerCase = 600;

class KvCachePropertyTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(KvCachePropertyTest, NobodyEverReadsForeignKvOnAnyTier) {
  for (uint64_t i = 0; i < kSeedsPerCase; ++i) {
    const uint64_t seed = GetParam() * kSeedsPerCase + i;
    KvWorld world(RandomKvWorldOptions(seed), seed);
    ASSERT_EQ(world.Run(), "") << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, KvCachePropertyTest, ::testing::Range<uint64_t>(0, 10),
                         [](const auto& group) { return "Group" + std::to_string(group.param); });

TEST(KvCacheDeterminismTest, SameCallsGiveTheSameDecisions) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    KvWorld first(RandomKvWorldOptions(seed), seed);
    KvWorld second(RandomKvWorldOptions(seed), seed);
    ASSERT_EQ(first.Run(), "") << "seed " << seed;
    ASSERT_EQ(second.Run(), "") << "seed " << seed;
    EXPECT_EQ(first.trace(), second.trace()) << "seed " << seed;
  }
}

// The random schedules are only worth something if they get everywhere.
TEST(KvCacheCoverageTest, RandomSchedulesReachEveryMove) {
  KvWorld::Coverage sum;
  KvCache::Counters counters;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    KvWorld world(RandomKvWorldOptions(seed), seed);
    ASSERT_EQ(world.Run(), "") << "seed " << seed;
    const KvWorld::Coverage& c = world.coverage();
    sum.gaps += c.gaps;
    sum.in_place += c.in_place;
    sum.from_disk += c.from_disk;
    sum.joins += c.joins;
    sum.pending += c.pending;
    sum.shared_claims += c.shared_claims;
    sum.late_revocations += c.late_revocations;
    sum.victims += c.victims;
    sum.refusals_rechecked += c.refusals_rechecked;
    sum.removed_events += c.removed_events;
    sum.pins += c.pins;
    sum.pinned_loads += c.pinned_loads;
    sum.pins_lost += c.pins_lost;
    sum.evicted += c.evicted;
    sum.evictions_kept += c.evictions_kept;
    sum.shared_fronts += c.shared_fronts;
    sum.stored_ahead += c.stored_ahead;
    sum.found += c.found;
    const KvCache::Counters& k = world.cache().counters();
    counters.stores_gated += k.stores_gated;
    counters.stores_reused += k.stores_reused;
    counters.spills += k.spills;
    counters.staged += k.staged;
    counters.prefetched += k.prefetched;
    counters.prefetches_used += k.prefetches_used;
    counters.device_evictions += k.device_evictions;
    counters.host_evictions += k.host_evictions;
    counters.disk_evictions += k.disk_evictions;
    counters.revoked += k.revoked;
    counters.pins_yielded += k.pins_yielded;
  }
  EXPECT_GT(sum.gaps, 100);
  EXPECT_GT(sum.in_place, 100);
  EXPECT_GT(sum.from_disk, 50);
  EXPECT_GT(sum.joins, 100);
  EXPECT_GT(sum.pending, 500);
  EXPECT_GT(sum.shared_claims, 50);
  EXPECT_GT(sum.late_revocations, 20);
  EXPECT_GT(sum.victims, 50);
  EXPECT_GT(sum.refusals_rechecked, 500);
  EXPECT_GT(sum.removed_events, 1000);
  EXPECT_GT(counters.stores_gated, 100);
  EXPECT_GT(counters.stores_reused, Blocks(100));
  EXPECT_GT(counters.spills, Blocks(100));
  EXPECT_GT(counters.staged, Blocks(100));
  EXPECT_GT(counters.prefetched, Blocks(100));
  EXPECT_GT(counters.prefetches_used, Blocks(50));
  EXPECT_GT(counters.device_evictions, Blocks(1000));
  EXPECT_GT(counters.host_evictions, Blocks(500));
  EXPECT_GT(counters.disk_evictions, Blocks(100));
  EXPECT_GT(counters.revoked, 200);
  EXPECT_GT(sum.pins, 1000);
  EXPECT_GT(sum.pinned_loads, 50);
  EXPECT_GT(sum.pins_lost, 100);
  EXPECT_GT(sum.evicted, 1000);
  EXPECT_GT(sum.evictions_kept, 200);
  EXPECT_GT(sum.shared_fronts, 20);
  EXPECT_GT(sum.stored_ahead, 50);
  EXPECT_GT(sum.found, 500);
  EXPECT_GT(counters.pins_yielded, Blocks(50));
}

}  // namespace
}  // namespace sluice::testing
