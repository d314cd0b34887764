// Copies in virtual time: by hand, and conservation over random ones.
#include "backend/sim/sim_link.h"

#include <array>
#include <map>
#include <random>

#include "gmock/gmock.h"
#include "tests/backend/sim/small_machine.h"

namespace sluice {
namespace {

using testing::MakeCopy;
using testing::Ms;
using testing::SmallMachine;

constexpr double kNear = 1e-6;  // of a millisecond
const absl::Time kStart = absl::UnixEpoch();

// Runs until nothing is under way; results by copy.
std::map<int64_t, CopyResult> Drain(SimLink& link) {
  std::map<int64_t, CopyResult> results;
  for (absl::Time next = link.next_event(); next < absl::InfiniteFuture();
       next = link.next_event()) {
    link.AdvanceTo(next);
    for (CopyResult& result : link.TakeFinished()) {
      EXPECT_TRUE(results.emplace(result.id.value(), result).second) << result.id;
    }
  }
  return results;
}

TEST(SimLinkTest, ACopyTakesLatencyAndItsBytes) {
  SimActivity activity(kStart);
  SimLink link(SmallMachine(), activity);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2)};
  link.Start(copies, kStart);
  EXPECT_EQ(activity.snapshot().links[0].in_flight, Bytes(8000));
  const auto results = Drain(link);
  ASSERT_EQ(results.size(), 1u);
  const CopyResult& result = results.at(1);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.bytes, Bytes(8000));
  EXPECT_NEAR(Ms(result.finished - kStart), 9, kNear);
}

TEST(SimLinkTest, CopiesOfOneDirectionFollowEachOther) {
  SimActivity activity(kStart);
  SimLink link(SmallMachine(), activity);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2),
                                    MakeCopy(2, LinkDirection::kHostToDevice, 1)};
  link.Start(copies, kStart);
  const auto results = Drain(link);
  EXPECT_NEAR(Ms(results.at(2).finished - kStart), 9 + 5, kNear);
  EXPECT_NEAR(Ms(activity.snapshot().links[0].busy), 14, kNear);
}

// A run costs at least 3 ms per layer here: one run of two blocks 3 ms, two runs of one block 6.
TEST(SimLinkTest, ScatteredBlocksPayPerRun) {
  SimOptions options = SmallMachine();
  options.cost.links[0] = {Seconds(1e-6), Seconds(3e-3), Seconds(0)};
  for (const bool scattered : {false, true}) {
    SimActivity activity(kStart);
    SimLink link(options, activity);
    std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2)};
    if (scattered) copies[0].blocks[1].target = BlockId(9);
    link.Start(copies, kStart);
    EXPECT_NEAR(Ms(Drain(link).at(1).finished - kStart), 4 * (scattered ? 6 : 3), kNear)
        << scattered;
  }
}

TEST(SimLinkTest, BothDirectionsAtOnceShareTheLink) {
  SimOptions options = SmallMachine();
  options.cost.duplex_share = 0.5;
  for (LinkCoefficients& line : options.cost.links) line.latency = Seconds(0);
  SimActivity activity(kStart);
  SimLink link(options, activity);
  std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2),
                              MakeCopy(2, LinkDirection::kDeviceToHost, 2)};
  copies[0].copy_class = CopyClass::kPrefetch;  // no demand load that would hold the store back
  link.Start(copies, kStart);
  const auto results = Drain(link);
  EXPECT_NEAR(Ms(results.at(1).finished - kStart), 16, kNear);
  EXPECT_NEAR(Ms(results.at(2).finished - kStart), 16, kNear);
  EXPECT_NEAR(Ms(activity.snapshot().transfer_only), 16, kNear);
}

TEST(SimLinkTest, ARevokedCopyEndsCancelledAndMovesNothing) {
  SimActivity activity(kStart);
  SimLink link(SmallMachine(), activity);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 2),
                                    MakeCopy(2, LinkDirection::kHostToDevice, 2)};
  link.Start(copies, kStart);
  const std::vector<CopyId> second = {CopyId(2), CopyId(77)};
  link.Revoke(second, kStart + absl::Milliseconds(1));
  const auto results = Drain(link);
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results.at(2).status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(results.at(1).status.ok());
  EXPECT_EQ(activity.snapshot().links[0].moved, Bytes(8000));
  EXPECT_EQ(activity.snapshot().links[0].in_flight, Bytes(0));
}

// Whatever comes and fails: every copy ends once, what moved is what was asked for, time adds up,
// and no direction moves faster than its rate.
TEST(SimLinkTest, RandomCopiesAreConserved) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 rng(seed);
    SimOptions options = SmallMachine();
    options.seed = seed;
    options.disk_blocks = Blocks(64);
    options.copy_failure_rate = seed % 2 == 0 ? 0.2 : 0;
    options.cost.duplex_share = 0.7;
    SimActivity activity(kStart);
    SimLink link(options, activity);
    std::array<Bytes, kLinkDirectionCount> asked{};
    std::map<int64_t, LinkDirection> direction_of;
    std::map<int64_t, CopyResult> results;
    const auto collect = [&](std::vector<CopyResult> some) {
      for (CopyResult& r : some) EXPECT_TRUE(results.emplace(r.id.value(), r).second) << r.id;
    };
    absl::Time now = kStart;
    for (int64_t id = 0; id < 60; ++id) {
      now += absl::Microseconds(static_cast<int64_t>(rng() % 9000));
      const auto direction = static_cast<LinkDirection>(rng() % kLinkDirectionCount);
      const std::vector<Copy> copies = {
          MakeCopy(id, direction, static_cast<int32_t>(1 + rng() % 5))};
      link.Start(copies, now);
      direction_of[id] = direction;
      if (rng() % 8 == 0) {
        const std::vector<CopyId> some = {CopyId(static_cast<int64_t>(rng() % 60))};
        link.Revoke(some, now);
      }
      collect(link.TakeFinished());
    }
    for (auto& [id, result] : Drain(link)) collect({result});
    ASSERT_EQ(results.size(), 60u);
    for (const auto& [id, result] : results) {
      EXPECT_LE(result.started, result.finished);
      if (result.status.ok()) asked[static_cast<size_t>(direction_of.at(id))] += result.bytes;
    }
    const ActivitySnapshot& snapshot = activity.snapshot();
    for (size_t d = 0; d < kLinkDirectionCount; ++d) {
      EXPECT_EQ(snapshot.links[d].moved, asked[d]);
      EXPECT_EQ(snapshot.links[d].in_flight, Bytes(0));
      EXPECT_GE(Ms(snapshot.links[d].busy) + kNear, static_cast<double>(asked[d].value()) * 1e-3);
      EXPECT_LE(snapshot.links[d].busy, snapshot.transfer_only);
    }
    EXPECT_EQ(snapshot.compute_only + snapshot.both, absl::ZeroDuration());
  }
}

}  // namespace
}  // namespace sluice
