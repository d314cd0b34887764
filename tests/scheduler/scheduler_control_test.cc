// Warm-ups, pins and evictions on request.
#include "tests/scheduler/driver.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr size_t kDeviceTier = static_cast<size_t>(Tier::kDevice);
constexpr size_t kHostTier = static_cast<size_t>(Tier::kHost);
constexpr size_t kDiskTier = static_cast<size_t>(Tier::kDisk);

class SchedulerControlTest : public ::testing::Test {
 protected:
  explicit SchedulerControlTest(const SchedulerOptions& options = Options()) : driver_(options) {}

  // 12 blocks of 4 tokens on the device, 24 on the host.
  static SchedulerOptions Options() {
    SchedulerOptions options = SmallOptions(12, 24);
    options.kv_events = true;
    return options;
  }

  // Computes a prompt of so many blocks, and one token more.
  void Run(int document, int blocks, int64_t id) {
    driver_.Submit(id, Document(document, 4 * blocks + 1));
    driver_.Drain();
    ASSERT_NE(driver_.FinishOf(id), nullptr);
    ASSERT_TRUE(driver_.FinishOf(id)->status.ok());
  }
  Tokens CachedAt(int64_t id, Tier tier) { return CachedOn(*driver_.FinishOf(id), tier); }

  WarmSpec Spec(int document, int blocks, absl::Duration pin = absl::ZeroDuration(),
                Tier tier = Tier::kDevice) {
    WarmSpec spec;
    spec.id = WarmId(++warms_);
    spec.tokens = Document(document, 4 * blocks + 1);
    spec.tier = tier;
    spec.pin = pin;
    return spec;
  }
  // Runs a warm-up to its end.
  WarmResult Warm(WarmSpec spec) {
    EXPECT_THAT(driver_.scheduler.Warm(std::move(spec), driver_.now), IsOk());
    for (int i = 0; i < 100; ++i) {
      driver_.Step();
      const std::vector<WarmResult> results = driver_.scheduler.TakeWarmResults();
      if (!results.empty()) return results.front();
      driver_.EndCopies();
    }
    ADD_FAILURE() << "a warm-up does not end";
    return {};
  }
  EvictSpec Prompt(int document, int blocks) const {
    EvictSpec spec;
    spec.prompt = Document(document, 4 * blocks + 1);
    spec.cache_salt = 0;
    return spec;
  }
  EvictResult Evict(const EvictSpec& spec) { return driver_.scheduler.Evict(spec, driver_.now); }

  SchedulerDriver driver_;
  int64_t warms_ = 0;
};

// ---- Warm --------------------------------------------------------------------------------------

TEST_F(SchedulerControlTest, WarmBringsKvBackToTheDeviceAndTheNextRequestHitsThere) {
  Run(1, 5, 1);
  Run(2, 11, 2);  // evicts the first from the device
  const WarmResult result = Warm(Spec(1, 5));
  EXPECT_EQ(result.ready, Tokens(20));
  EXPECT_EQ(result.missing, Tokens(1));
  EXPECT_EQ(result.pinned, Tokens(0));
  Run(1, 5, 3);
  EXPECT_EQ(CachedAt(3, Tier::kDevice), Tokens(20));
}

TEST_F(SchedulerControlTest, WhatIsNotCachedIsMissing) {
  Run(1, 3, 1);
  const WarmResult result = Warm(Spec(1, 5, absl::Seconds(1)));
  EXPECT_EQ(result.ready, Tokens(12));
  EXPECT_EQ(result.missing, Tokens(9));
  EXPECT_EQ(result.pinned, Tokens(12));
}

TEST_F(SchedulerControlTest, APinSurvivesPressureAndEndsInTime) {
  Run(1, 5, 1);
  EXPECT_EQ(Warm(Spec(1, 5, absl::Seconds(100))).pinned, Tokens(20));
  EXPECT_EQ(driver_.scheduler.stats().device.pinned, Blocks(5));
  for (int64_t id = 2; id < 8; ++id) Run(static_cast<int>(id), 6, id);
  Run(1, 5, 8);
  EXPECT_EQ(CachedAt(8, Tier::kDevice), Tokens(20));

  EXPECT_LE(driver_.scheduler.NextWakeup(), driver_.now + absl::Seconds(100));
  driver_.now = driver_.scheduler.NextWakeup();
  driver_.Step();
  EXPECT_EQ(driver_.scheduler.stats().device.pinned, Blocks(0));
  Run(9, 11, 9);
  Run(1, 5, 10);
  EXPECT_EQ(CachedAt(10, Tier::kDevice), Tokens(0));
}

TEST_F(SchedulerControlTest, WarmingAgainProlongsAPinAndNeverCutsItShort) {
  Run(1, 4, 1);
  Warm(Spec(1, 4, absl::Seconds(100)));
  const absl::Time end = driver_.scheduler.NextWakeup();
  Warm(Spec(1, 4, absl::Seconds(1)));
  EXPECT_EQ(driver_.scheduler.NextWakeup(), end);
  Warm(Spec(1, 4, absl::Seconds(200)));
  EXPECT_GT(driver_.scheduler.NextWakeup(), end);
  EXPECT_EQ(driver_.scheduler.stats().device.pinned, Blocks(4));
}

TEST_F(SchedulerControlTest, APinOnTheHostKeepsTheHostCopy) {
  Run(1, 5, 1);
  EXPECT_EQ(Warm(Spec(1, 5, absl::Seconds(100), Tier::kHost)).pinned, Tokens(20));
  for (int64_t id = 2; id < 12; ++id) Run(static_cast<int>(id), 11, id);
  Run(1, 5, 12);
  EXPECT_EQ(CachedAt(12, Tier::kHost), Tokens(20));
}

TEST_F(SchedulerControlTest, MoreThanTheShareIsRefusedWithLimitAndRemedy) {
  Run(1, 5, 1);
  Warm(Spec(1, 5, absl::Seconds(100)));
  const absl::Status refused = driver_.scheduler.Warm(Spec(2, 2, absl::Seconds(1)), driver_.now);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("2 more blocks would be pinned on the device; 5 are, and 6 may be"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("shorten the prompt"));
  // What is pinned already counts once.
  EXPECT_THAT(driver_.scheduler.Warm(Spec(1, 6, absl::Seconds(1)), driver_.now), IsOk());
}

TEST_F(SchedulerControlTest, ATierThatIsNotThereIsRefused) {
  SchedulerDriver driver(SmallOptions(12));
  const absl::Status refused =
      driver.scheduler.Warm(Spec(1, 2, absl::Seconds(1), Tier::kHost), driver.now);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("no host tier"));
}

TEST_F(SchedulerControlTest, AWarmUpThatWaitsForACopyEndsAtItsDeadline) {
  Run(1, 5, 1);
  Run(2, 11, 2);
  WarmSpec spec = Spec(1, 5);
  spec.deadline = driver_.now + absl::Seconds(1);
  ASSERT_THAT(driver_.scheduler.Warm(spec, driver_.now), IsOk());
  driver_.Plan();
  ASSERT_THAT(driver_.copies, SizeIs(1));
  EXPECT_THAT(driver_.scheduler.TakeWarmResults(), IsEmpty());
  EXPECT_EQ(driver_.scheduler.NextWakeup(), spec.deadline);
  driver_.now = spec.deadline;
  driver_.Plan();
  const std::vector<WarmResult> results = driver_.scheduler.TakeWarmResults();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_FALSE(results[0].in_time);
  EXPECT_EQ(results[0].ready, Tokens(0));
  EXPECT_EQ(results[0].elsewhere, Tokens(20));
}

TEST_F(SchedulerControlTest, AFailedLoadEndsThePinsOfItsBlocks) {
  Run(1, 5, 1);
  Run(2, 11, 2);
  ASSERT_THAT(driver_.scheduler.Warm(Spec(1, 5, absl::Seconds(9)), driver_.now), IsOk());
  driver_.Plan();
  ASSERT_THAT(driver_.copies, SizeIs(1));
  EXPECT_EQ(driver_.scheduler.stats().device.pinned, Blocks(5));
  driver_.EndCopy(driver_.copies.begin()->first, absl::DataLossError("bad"));
  EXPECT_EQ(driver_.scheduler.stats().device.pinned, Blocks(0));
  driver_.Plan();
  const std::vector<WarmResult> results = driver_.scheduler.TakeWarmResults();
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].missing, Tokens(21));
}

// ---- Pins give way -----------------------------------------------------------------------------

TEST_F(SchedulerControlTest, PinsYieldToARequestThatCouldNotBeAdmittedOtherwise) {
  Run(1, 6, 1);
  Warm(Spec(1, 6, absl::Hours(1)));
  Run(2, 8, 2);  // needs 9 of the 12 blocks
  EXPECT_EQ(driver_.scheduler.stats().device.pinned, Blocks(3));
  EXPECT_EQ(driver_.scheduler.stats().moves.pins_yielded, Blocks(3));
  Run(3, 11, 3);  // all of them
  EXPECT_EQ(driver_.scheduler.stats().device.pinned, Blocks(0));
}

TEST_F(SchedulerControlTest, PinsOfItsOwnPromptAreNoObstacle) {
  Run(1, 6, 1);
  Warm(Spec(1, 6, absl::Hours(1)));
  Run(1, 11, 2);
  EXPECT_EQ(CachedAt(2, Tier::kDevice), Tokens(24));
  EXPECT_EQ(driver_.scheduler.stats().device.pinned, Blocks(6));
}

TEST_F(SchedulerControlTest, ARequestThatFitsBesideThePinsWaitsForOthersInstead) {
  Run(1, 6, 1);
  Warm(Spec(1, 6, absl::Hours(1)));
  driver_.Submit(2, Document(2, 9), 3);   // 3 blocks
  driver_.Submit(3, Document(3, 17), 3);  // 5 blocks: not beside the other
  driver_.Drain();
  EXPECT_TRUE(driver_.FinishOf(3)->status.ok());
  EXPECT_EQ(driver_.scheduler.stats().moves.pins_yielded, Blocks(0));
}

// ---- Evict -------------------------------------------------------------------------------------

TEST_F(SchedulerControlTest, AnEvictedPromptIsComputedAgainAndItsBlocksAreToldToBeGone) {
  Run(1, 5, 1);
  driver_.scheduler.TakeKvEvents();
  const EvictResult result = Evict(Prompt(1, 5));
  EXPECT_EQ(result.tiers[kDeviceTier].dropped, Blocks(5));
  EXPECT_EQ(result.tiers[kHostTier].dropped, Blocks(5));
  EXPECT_EQ(result.shared, Blocks(0));
  const KvEvents events = driver_.scheduler.TakeKvEvents();
  ASSERT_THAT(events, SizeIs(5));  // one per block, not per copy
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].kind, KvEvent::Kind::kRemoved);
  Run(1, 5, 2);
  EXPECT_EQ(driver_.FinishOf(2)->stats.computed, Tokens(21));
  EXPECT_EQ(driver_.scheduler.stats().moves.evicted_on_request, Blocks(10));
}

TEST_F(SchedulerControlTest, OnlyTheTiersNamedAreTouched) {
  Run(1, 5, 1);
  EvictSpec spec = Prompt(1, 5);
  spec.tiers = {true, false, false, false};
  EXPECT_EQ(Evict(spec).tiers[kHostTier].dropped, Blocks(0));
  Run(1, 5, 2);
  EXPECT_EQ(CachedAt(2, Tier::kHost), Tokens(20));
}

TEST_F(SchedulerControlTest, WhatContinuesAPromptGoesAndWhatOthersBeginWithStays) {
  std::vector<TokenId> other = Document(1, 8);  // two blocks in common
  for (const TokenId token : Document(7, 5)) other.push_back(token);
  Run(1, 5, 1);
  driver_.Submit(2, other);
  driver_.Drain();
  const EvictResult result = Evict(Prompt(1, 4));
  EXPECT_EQ(result.tiers[kDeviceTier].dropped, Blocks(3));  // the fifth goes with the fourth
  EXPECT_EQ(result.shared, Blocks(2));
  driver_.Submit(3, other);
  driver_.Drain();
  EXPECT_EQ(CachedAt(3, Tier::kDevice), Tokens(12));
  Run(1, 5, 4);
  EXPECT_EQ(CachedAt(4, Tier::kDevice), Tokens(8));
}

TEST_F(SchedulerControlTest, WhatARequestUsesStaysAndIsReported) {
  driver_.Submit(1, Document(1, 21), 10);
  driver_.Step();
  driver_.EndCopies();
  const EvictResult result = Evict(Prompt(1, 5));
  EXPECT_EQ(result.tiers[kDeviceTier].in_use, Blocks(5));
  EXPECT_EQ(result.tiers[kDeviceTier].dropped, Blocks(0));
  driver_.Drain();
  EXPECT_TRUE(driver_.FinishOf(1)->status.ok());
}

TEST_F(SchedulerControlTest, PinnedBlocksStayUnlessAskedFor) {
  Run(1, 5, 1);
  Warm(Spec(1, 5, absl::Hours(1)));
  EvictSpec all;
  EXPECT_EQ(Evict(all).tiers[kDeviceTier].pinned, Blocks(5));
  all.pinned = true;
  EXPECT_EQ(Evict(all).tiers[kDeviceTier].dropped, Blocks(5));
  EXPECT_EQ(driver_.scheduler.stats().device.pinned, Blocks(0));
  EXPECT_EQ(driver_.scheduler.stats().device.free, Blocks(12));
}

TEST_F(SchedulerControlTest, ASaltIsEvictedAlone) {
  RequestSpec one = driver_.Spec(1, Document(1, 21));
  one.cache_salt = 77;
  ASSERT_THAT(driver_.scheduler.Submit(one, driver_.now), IsOk());
  driver_.Drain();
  Run(1, 5, 2);
  EvictSpec spec;
  spec.cache_salt = 77;
  EXPECT_EQ(Evict(spec).tiers[kDeviceTier].dropped, Blocks(5));
  Run(1, 5, 3);
  EXPECT_EQ(CachedAt(3, Tier::kDevice), Tokens(20));
}

class SchedulerDiskControlTest : public SchedulerControlTest {
 protected:
  SchedulerDiskControlTest() : SchedulerControlTest(WithDisk()) {}
  static SchedulerOptions WithDisk() {
    SchedulerOptions options = Options();
    options.disk_blocks = Blocks(60);
    return options;
  }
};

TEST_F(SchedulerDiskControlTest, WarmGoesFromTheDiskOverTheHostToTheDevice) {
  Run(1, 5, 1);
  EvictSpec near = Prompt(1, 5);
  near.tiers = {true, true, false, false};
  driver_.EndCopies();
  Evict(near);
  const WarmResult result = Warm(Spec(1, 5, absl::Seconds(5)));
  EXPECT_EQ(result.ready, Tokens(20));
  EXPECT_EQ(result.pinned, Tokens(20));
  Run(1, 5, 2);
  EXPECT_EQ(CachedAt(2, Tier::kDevice), Tokens(20));
}

TEST_F(SchedulerDiskControlTest, SlotsOfTheDiskAreGivenBack) {
  Run(1, 5, 1);
  driver_.EndCopies();
  const EvictResult result = Evict(Prompt(1, 5));
  EXPECT_EQ(result.tiers[kDiskTier].dropped, Blocks(5));
  EXPECT_THAT(result.disk_slots, SizeIs(5));
  EXPECT_EQ(driver_.scheduler.stats().disk.free, Blocks(60));
}

}  // namespace
}  // namespace sluice::testing
