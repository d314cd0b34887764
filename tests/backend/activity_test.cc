#include "backend/activity.h"

#include <random>

#include "gtest/gtest.h"

namespace sluice {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);
absl::Time At(int64_t seconds) { return kStart + absl::Seconds(seconds); }

TEST(ActivityMeterTest, SplitsTimeIntoFourStates) {
  ActivityMeter meter(kStart);
  meter.BeginCompute(At(1));                                                 // [0, 1) idle
  meter.BeginTransfer(LinkDirection::kHostToDevice, At(3));                  // [1, 3) compute only
  meter.EndCompute(At(6));                                                   // [3, 6) both
  meter.EndTransfer(LinkDirection::kHostToDevice, Bytes(10), true, At(10));  // [6, 10) transfer
  const ActivitySnapshot s = meter.Snapshot(At(15));                         // [10, 15) idle
  EXPECT_EQ(s.idle, absl::Seconds(6));
  EXPECT_EQ(s.compute_only, absl::Seconds(2));
  EXPECT_EQ(s.both, absl::Seconds(3));
  EXPECT_EQ(s.transfer_only, absl::Seconds(4));
  EXPECT_EQ(s.wall(), absl::Seconds(15));
}

TEST(ActivityMeterTest, OverlappingCopiesCountOnce) {
  ActivityMeter meter(kStart);
  meter.BeginTransfer(LinkDirection::kHostToDevice, At(0));
  meter.BeginTransfer(LinkDirection::kHostToDevice, At(1));
  meter.BeginTransfer(LinkDirection::kDeviceToHost, At(2));
  meter.EndTransfer(LinkDirection::kHostToDevice, Bytes(1), true, At(3));
  meter.EndTransfer(LinkDirection::kHostToDevice, Bytes(1), true, At(4));
  meter.EndTransfer(LinkDirection::kDeviceToHost, Bytes(1), true, At(5));
  const ActivitySnapshot s = meter.Snapshot(At(5));
  EXPECT_EQ(s.transfer_only, absl::Seconds(5));
  EXPECT_EQ(s.links[0].busy, absl::Seconds(4));
  EXPECT_EQ(s.links[1].busy, absl::Seconds(3));
  EXPECT_EQ(s.links[0].operations, 2);
}

TEST(ActivityMeterTest, AFailedCopyMovesNothing) {
  ActivityMeter meter(kStart);
  meter.QueueTransfer(LinkDirection::kDeviceToHost, Bytes(64));
  meter.BeginTransfer(LinkDirection::kDeviceToHost, At(0));
  EXPECT_EQ(meter.Snapshot(At(1)).links[1].in_flight, Bytes(64));
  meter.EndTransfer(LinkDirection::kDeviceToHost, Bytes(64), false, At(1));
  const ActivitySnapshot s = meter.Snapshot(At(1));
  EXPECT_EQ(s.links[1].in_flight, Bytes(0));
  EXPECT_EQ(s.links[1].moved, Bytes(0));
}

TEST(ActivityMeterTest, ACopyTakenBackBeforeItBeganIsNoLongerInFlight) {
  ActivityMeter meter(kStart);
  meter.QueueTransfer(LinkDirection::kDiskToHost, Bytes(64));
  meter.QueueTransfer(LinkDirection::kDiskToHost, Bytes(5));
  meter.DropTransfer(LinkDirection::kDiskToHost, Bytes(64));
  const ActivitySnapshot s = meter.Snapshot(At(1));
  EXPECT_EQ(s.links[2].in_flight, Bytes(5));
  EXPECT_EQ(s.links[2].operations, 0);
  EXPECT_EQ(s.idle, absl::Seconds(1));
}

TEST(ActivityMeterTest, StallsAreCountedBesideTheStates) {
  ActivityMeter meter(kStart);
  meter.BeginStall(At(1));
  meter.EndStall(At(4));
  EXPECT_EQ(meter.Snapshot(At(5)).load_stall, absl::Seconds(3));
}

// Whatever happens in whatever order, the states sum to the time that has passed; a clock that
// steps back is ignored.
TEST(ActivityMeterTest, StatesAlwaysSumToWallTime) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 rng(seed);
    ActivityMeter meter(kStart);
    int computing = 0;
    int moving[kLinkDirectionCount] = {};
    absl::Time now = kStart, latest = kStart;
    for (int i = 0; i < 200; ++i) {
      now += absl::Milliseconds(static_cast<int64_t>(rng() % 100) - 20);
      latest = std::max(latest, now);
      const int d = static_cast<int>(rng() % kLinkDirectionCount);
      const auto direction = static_cast<LinkDirection>(d);
      switch (rng() % 4) {
        case 0:
          meter.BeginCompute(now), ++computing;
          break;
        case 1:
          if (computing > 0) meter.EndCompute(now), --computing;
          break;
        case 2:
          meter.BeginTransfer(direction, now), ++moving[d];
          break;
        default:
          if (moving[d] > 0) meter.EndTransfer(direction, Bytes(1), true, now), --moving[d];
      }
    }
    EXPECT_EQ(meter.Snapshot(latest).wall(), latest - kStart);
  }
}

}  // namespace
}  // namespace sluice
