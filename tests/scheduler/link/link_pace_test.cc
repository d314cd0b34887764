// When things arrive: rates, both directions at once, held-back write-back, backlog.
#include <cmath>
#include <functional>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/link/link_scheduler.h"
#include "tests/scheduler/link/virtual_link.h"

namespace sluice::testing {
namespace {

constexpr Bytes kLayerBytes(100'000);

LinkSchedulerOptions Options(int layers, double rate) {
  LinkSchedulerOptions options;
  options.layers = layers;
  options.layer_bytes = kLayerBytes;
  for (LineOptions& line : options.lines) line.rate = ByteRate(rate);
  return options;
}

// Serves the link as a worker would that needs `move` per slice and wakes up `late` after the time
// it asked for. Returns when the last slice arrived.
absl::Time DrainLate(LinkScheduler& link, absl::Time now, absl::Duration move,
                     absl::Duration late) {
  absl::Time last = now;
  for (;;) {
    if (!link.Arrive(now).empty()) last = now;
    if (const auto slice = link.Start(now)) {
      now += move;
      link.Moved(*slice, absl::OkStatus(), now);
      continue;
    }
    if (link.next_event() == absl::InfiniteFuture()) return last;
    now = std::max(now, link.next_event() + late);
  }
}

TEST(LinkPaceTest, CopiesTakeTheirBytesAtTheStatedRateWithinOnePercent) {
  for (const double rate : {1e8, 1e9, 64e9}) {
    LinkSchedulerOptions options = Options(10, rate);
    options.slice_bytes = MiB(1024);
    LinkScheduler link(options);
    const int blocks = static_cast<int>(rate / 1e7);  // 0.1 s each
    for (int i = 0; i < 5; ++i) link.Push(MakeCopy(i, kLoad, CopyClass::kDemand, blocks), At(5));
    const double ideal = 5 * 10 * blocks * 1e5 / rate;
    const absl::Time end = DrainLate(link, At(5), absl::Microseconds(50), absl::Microseconds(100));
    EXPECT_GE(absl::ToDoubleSeconds(end - At(5)), ideal - 1e-6);
    EXPECT_LE(absl::ToDoubleSeconds(end - At(5)), ideal * 1.01);
  }
}

TEST(LinkPaceTest, LayersArriveEvenly) {
  VirtualLink v(Options(4, 1e8));
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 10));
  v.Drain();
  for (int layer = 0; layer < 4; ++layer) {
    EXPECT_NEAR(v.LayerTime(1, layer), 0.01 * (layer + 1), 1e-6);
  }
}

TEST(LinkPaceTest, AnIdleLineEarnsNoCredit) {
  VirtualLink v(Options(1, 1e8));
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1));
  v.Drain();
  EXPECT_NEAR(v.EndOf(1), 0.001, 1e-9);
  v.now = At(10);
  v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1));
  v.Drain();
  EXPECT_NEAR(v.EndOf(2), 10.001, 1e-9);
}

TEST(LinkPaceTest, ALineThatARevocationEmptiedEarnsNoCredit) {
  VirtualLink v(Options(1, 1e8));
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1));
  v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1));
  v.link.Moved(*v.link.Start(At(0)), absl::OkStatus(), At(0));
  v.link.Arrive(At(0.001));
  v.link.Revoke(CopyId(2), At(0.001));
  v.now = At(0.002);
  v.Push(MakeCopy(3, kLoad, CopyClass::kDemand, 1));
  v.Drain();
  EXPECT_NEAR(v.EndOf(3), 0.003, 1e-9);
}

TEST(LinkPaceTest, LatencyComesOncePerCopyAndDescriptorsBoundItsRate) {
  LinkSchedulerOptions options = Options(2, 1e8);
  options.lines[0].latency = Seconds(0.5);
  options.lines[0].per_run = Seconds(0.004);
  VirtualLink v(options);
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 10));  // one stretch: 10 ms of bytes per layer
  v.Drain();
  EXPECT_NEAR(v.EndOf(1), 0.5 + 2 * 0.010, 1e-9);
  Copy scattered = MakeCopy(2, kLoad, CopyClass::kDemand, 10);
  for (Copy::Pair& pair : scattered.blocks) pair.source = BlockId(2 * pair.source.value());
  v.Push(scattered);  // ten stretches: 40 ms per layer
  v.Drain();
  EXPECT_NEAR(v.EndOf(2) - v.EndOf(1), 0.5 + 2 * 0.040, 1e-9);
}

// --- Two directions ---

TEST(LinkPaceTest, AllDirectionsRunAtOnce) {
  VirtualLink v(Options(10, 1e9));
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 40));
  v.Push(MakeCopy(2, kStore, CopyClass::kDemand, 40));
  v.Push(MakeCopy(3, kFromDisk, CopyClass::kPrefetch, 40));
  v.Push(MakeCopy(4, kToDisk, CopyClass::kWriteBack, 40));
  v.Drain();
  for (const int64_t id : {1, 2, 3, 4}) EXPECT_NEAR(v.EndOf(id), 0.04, 1e-6) << id;
}

TEST(LinkPaceTest, BothDirectionsOfTheHostLinkSlowEachOtherWhileBothAreBusy) {
  for (const bool coalesce : {false, true}) {
    LinkSchedulerOptions options = Options(1, 1e8);
    options.duplex_share = 0.5;
    options.coalesce = coalesce;
    VirtualLink v(options);
    v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 10));
    v.RunTo(At(0.0045));
    v.Push(MakeCopy(2, kStore, CopyClass::kDemand, 2));        // 4 ms of the link at half speed
    v.Push(MakeCopy(3, kFromDisk, CopyClass::kPrefetch, 10));  // a link of its own
    v.Drain();
    EXPECT_NEAR(v.EndOf(2), 0.0085, 1e-9);
    EXPECT_NEAR(v.EndOf(1), 0.0120, 1e-9);  // 4.5 ms, 4 ms at half speed, 3.5 ms
    EXPECT_NEAR(v.EndOf(3), 0.0145, 1e-9);
  }
}

TEST(LinkPaceTest, WriteBackGetsItsShareWhileDemandLoadsWaitAndAllOfItAfterwards) {
  for (const bool coalesce : {false, true}) {
    LinkSchedulerOptions options = Options(1, 1e8);
    options.write_back_share = 0.25;
    options.coalesce = coalesce;
    VirtualLink v(options);
    v.Push(MakeCopy(1, kStore, CopyClass::kWriteBack, 40));
    v.RunTo(At(0.0095));
    v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 40));
    v.Drain();
    EXPECT_NEAR(v.EndOf(2), 0.0495, 1e-9);
    // 10 blocks by 10 ms, then one every 4 ms (at 10, 14, ... 46 ms), the last of which ends at
    // 47 ms; from 49.5 ms on the other 20 follow each other.
    EXPECT_NEAR(v.EndOf(1), 0.0695, 1e-9);
  }
}

TEST(LinkPaceTest, OnlyWriteBackIsHeldBackAndOnlyByDemandLoads) {
  LinkSchedulerOptions options = Options(1, 1e8);
  options.write_back_share = 0.25;
  VirtualLink prefetch(options);
  prefetch.Push(MakeCopy(1, kLoad, CopyClass::kPrefetch, 20));
  prefetch.Push(MakeCopy(2, kStore, CopyClass::kWriteBack, 20));
  prefetch.Drain();
  EXPECT_NEAR(prefetch.EndOf(2), 0.020, 1e-9);
  VirtualLink demand(options);
  demand.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 20));
  demand.Push(MakeCopy(2, kStore, CopyClass::kPrefetch, 20));
  demand.Push(MakeCopy(3, kToDisk, CopyClass::kWriteBack, 20));
  demand.Drain();
  EXPECT_NEAR(demand.EndOf(2), 0.020, 1e-9);
  EXPECT_NEAR(demand.EndOf(3), 0.020, 1e-9);
}

TEST(LinkPaceTest, AnOverdueWriteBackIsNotHeldBack) {
  LinkSchedulerOptions options = Options(1, 1e8);
  options.write_back_share = 0.01;
  options.promote_after = absl::Milliseconds(10);  // write-back: 30 ms
  VirtualLink v(options);
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1000));
  v.Push(MakeCopy(2, kStore, CopyClass::kWriteBack, 10));
  v.Drain();
  EXPECT_NEAR(v.EndOf(2), 0.030 + 0.009, 1e-9);  // one slice came through before
}

// --- Backlog ---

TEST(LinkPaceTest, BacklogIsTheTimeAllThatIsQueuedStillNeeds) {
  for (const bool coalesce : {false, true}) {
    LinkSchedulerOptions options = Options(2, 1e8);
    options.coalesce = coalesce;
    VirtualLink v(options);
    v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 10));
    v.Push(MakeCopy(2, kLoad, CopyClass::kPrefetch, 5));
    EXPECT_NEAR(v.link.Backlog(kLoad, v.now).value(), 0.030, 1e-9);
    v.RunTo(At(0.0125));
    EXPECT_NEAR(v.link.Backlog(kLoad, v.now).value(), 0.0175, 1e-9);
    v.Revoke(2);
    EXPECT_NEAR(v.link.Backlog(kLoad, v.now).value(), 0.0075, 1e-9);
    EXPECT_EQ(v.link.Backlog(kStore, v.now).value(), 0);
    v.Drain();
    EXPECT_EQ(v.link.Backlog(kLoad, v.now).value(), 0);
  }
}

}  // namespace
}  // namespace sluice::testing
