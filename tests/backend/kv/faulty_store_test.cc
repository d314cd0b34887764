// Copies through a store that goes wrong in every way it can: whatever is said to have arrived is
// right, and every fault shows in the results.
#include "backend/kv/faulty_store.h"

#include <set>

#include "tests/backend/kv/link_world.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::IsEmpty;

constexpr size_t kBlocks = 6;

FaultyStoreOptions RandomFaults(uint64_t seed) {
  std::mt19937_64 random(seed * 31 + 5);
  FaultyStoreOptions options;
  options.seed = seed;
  for (int f = 0; f < kStoreFaultCount; ++f) {
    const auto fault = static_cast<StoreFault>(f);
    if (fault != StoreFault::kDelay && random() % 3 == 0) options.With(fault, 0.15);
  }
  return options;
}

struct Tally {
  int64_t faults = 0;
  int64_t refused = 0;  // blocks that a copy said are not in place
  int64_t corrupt = 0;  // of these, as corrupt
  int64_t arrived = 0;
};

void RunSchedule(uint64_t seed, Tally* tally) {
  const TempDir dir;
  DiskStoreOptions quick = SmallStore(dir, 48);
  quick.io = FileIoMethod::kThreads;
  quick.direct = false;
  const std::unique_ptr<DiskStore> store = OpenStore(quick);
  FaultyStore faulty(*store, RandomFaults(seed));
  LinkWorld world(faulty, 16);
  int64_t copy = 0;
  int64_t silent_seen = 0;
  for (int round = 0; round < 6; ++round) {
    const std::vector<TestBlock> blocks =
        MakePrompt(seed * 100 + static_cast<uint64_t>(round), kBlocks);
    const auto slot = static_cast<int32_t>(round * 8);
    const CopyResult spilled = world.Spill(copy++, blocks, slot, 0);
    const std::set<int32_t> unwritten(spilled.failed.begin(), spilled.failed.end());
    EXPECT_EQ(spilled.status.ok(), unwritten.empty());
    for (int again = 0; again < 2; ++again) {
      world.ClearHost();
      const CopyResult staged = world.Stage(copy++, blocks, slot, 8);
      const std::set<int32_t> failed(staged.failed.begin(), staged.failed.end());
      EXPECT_EQ(staged.status.ok(), failed.empty());
      for (size_t i = 0; i < kBlocks; ++i) {
        if (failed.contains(static_cast<int32_t>(i))) continue;
        ++tally->arrived;
        EXPECT_FALSE(unwritten.contains(static_cast<int32_t>(i))) << "read what was never written";
        EXPECT_EQ(world.HostBlock(8 + i), blocks[i].bytes) << "wrong bytes were served";
      }
      tally->refused += static_cast<int64_t>(failed.size());
      tally->corrupt += staged.corrupt;
      silent_seen += staged.corrupt;
    }
  }
  world.Stop();
  for (int f = 0; f < kStoreFaultCount; ++f)
    tally->faults += faulty.count(static_cast<StoreFault>(f));
  // A read may have met several faults at once, but none that nobody noticed.
  EXPECT_TRUE(silent_seen > 0 || faulty.silent_read_faults() == 0);
}

TEST(FaultyStoreTest, AThousandFaultsAreNoticedAndNoWrongByteIsServed) {
  Tally tally;
  for (uint64_t seed = 0; tally.faults < 1000; ++seed) {
    SCOPED_TRACE(seed);
    RunSchedule(seed, &tally);
    ASSERT_FALSE(::testing::Test::HasFailure());
    ASSERT_LT(seed, 500U) << "too few faults";
  }
  EXPECT_GT(tally.refused, 200);
  EXPECT_GT(tally.corrupt, 100);
  EXPECT_GT(tally.arrived, 1000);
}

// One fault at a time: each is seen as what it is.
struct Case {
  StoreFault fault;
  bool when_writing;
  absl::StatusCode want;
};

class OneFaultTest : public ::testing::TestWithParam<Case> {};

TEST_P(OneFaultTest, IsSeenAsWhatItIs) {
  const Case& c = GetParam();
  const TempDir dir;
  const std::unique_ptr<DiskStore> store = OpenStore(SmallStore(dir, 48));
  FaultyStore faulty(*store, FaultyStoreOptions().With(c.fault, 1));
  LinkWorld world(faulty, 16);
  const std::vector<TestBlock> blocks = MakePrompt(1, kBlocks);
  const CopyResult spilled = world.Spill(1, blocks, 0, 0);
  world.ClearHost();
  const CopyResult staged = c.when_writing ? spilled : world.Stage(2, blocks, 0, 8);
  EXPECT_EQ(staged.status.code(), c.want) << staged.status;
  EXPECT_EQ(staged.failed.size(), kBlocks);
  EXPECT_EQ(spilled.status.ok(), !c.when_writing);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, OneFaultTest,
    ::testing::Values(Case{StoreFault::kWriteError, true, absl::StatusCode::kUnavailable},
                      Case{StoreFault::kNoSpace, true, absl::StatusCode::kResourceExhausted},
                      Case{StoreFault::kTornWrite, false, absl::StatusCode::kDataLoss},
                      Case{StoreFault::kLostWrite, false, absl::StatusCode::kDataLoss},
                      Case{StoreFault::kReadError, false, absl::StatusCode::kUnavailable},
                      Case{StoreFault::kShortRead, false, absl::StatusCode::kDataLoss},
                      Case{StoreFault::kBitFlip, false, absl::StatusCode::kDataLoss},
                      Case{StoreFault::kOtherBlock, false, absl::StatusCode::kDataLoss},
                      Case{StoreFault::kOtherRecord, false, absl::StatusCode::kDataLoss}),
    [](const auto& c) { return "Fault" + std::to_string(static_cast<int>(c.param.fault)); });

TEST(FaultyStoreTest, WithoutFaultsItChangesNothing) {
  const TempDir dir;
  const std::unique_ptr<DiskStore> store = OpenStore(SmallStore(dir));
  FaultyStore faulty(*store, {});
  LinkWorld world(faulty, 16);
  const std::vector<TestBlock> blocks = MakePrompt(1, kBlocks);
  EXPECT_THAT(world.Spill(1, blocks, 0, 0).failed, IsEmpty());
  EXPECT_THAT(world.Stage(2, blocks, 0, 8).failed, IsEmpty());
  EXPECT_EQ(world.HostBlock(8), blocks[0].bytes);
}

TEST(FaultyStoreTest, DelaysWaitAsTold) {
  const TempDir dir;
  const std::unique_ptr<DiskStore> store = OpenStore(SmallStore(dir));
  FaultyStoreOptions options;
  options.With(StoreFault::kDelay, 1);
  options.delay = absl::Milliseconds(7);
  absl::Duration waited;
  options.pause = [&waited](absl::Duration d) { waited += d; };
  FaultyStore faulty(*store, options);
  ASSERT_THAT(WriteAll(faulty, MakePrompt(1, 2)), IsOk());
  EXPECT_EQ(waited, absl::Milliseconds(7));
}

}  // namespace
}  // namespace sluice::testing
