// The cache after a restart: what its predecessor left on the disk is adopted, then the random
// schedules of kv_world.h go on with it.
#include "gtest/gtest.h"
#include "tests/property/kv_world.h"

namespace sluice::testing {
namespace {

constexpr uint64_t kSeeds = 1500;

TEST(KvRestartPropertyTest, AdoptedBlocksAreThoseThatWereLeftAndNobodyReadsForeignKv) {
  int64_t adopted = 0;
  int64_t not_adopted = 0;
  int64_t from_disk = 0;
  int64_t partial = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const KvWorldOptions options = RandomKvWorldOptions(seed);
    if (options.cache.disk_blocks == Blocks(0)) continue;
    KvWorld before(options, seed);
    ASSERT_EQ(before.Run(), "") << "seed " << seed;
    KvWorld after(options, seed + kSeeds);
    after.AdoptFrom(before, seed % 3 == 0 ? 1 : 0.8);
    ASSERT_EQ(after.Run(), "") << "seed " << seed;
    adopted += after.coverage().adopted;
    not_adopted += after.coverage().not_adopted;
    from_disk += after.coverage().from_disk;
    partial += before.coverage().partial + after.coverage().partial;
  }
  // The random schedules are only worth something if they get everywhere.
  EXPECT_GT(adopted, 1000);
  EXPECT_GT(not_adopted, 100);
  EXPECT_GT(from_disk, 100);
  EXPECT_GT(partial, 50);
}

}  // namespace
}  // namespace sluice::testing
