// Order, progress and revocation. Pace: link_pace_test.cc; anything at random:
// tests/property/link_property_test.cc.
#include "scheduler/link/link_scheduler.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/scheduler/link/virtual_link.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Bytes kLayerBytes(100'000);

LinkSchedulerOptions Options(int layers, double rate = 0) {
  LinkSchedulerOptions options;
  options.layers = layers;
  options.layer_bytes = kLayerBytes;
  for (LineOptions& line : options.lines) line.rate = ByteRate(rate);
  return options;
}

std::vector<int64_t> Order(const VirtualLink& link) {
  std::vector<int64_t> order;
  for (const VirtualLink::Served& served : link.served) order.push_back(served.slice.id.value());
  return order;
}

TEST(LinkSchedulerTest, ServesClassesInOrder) {
  VirtualLink v(Options(1));
  v.Push(MakeCopy(1, kLoad, CopyClass::kWriteBack, 1));
  v.Push(MakeCopy(2, kLoad, CopyClass::kPrefetch, 1));
  v.Push(MakeCopy(3, kLoad, CopyClass::kDemand, 1));
  v.Push(MakeCopy(4, kLoad, CopyClass::kControl, 1));
  v.Push(MakeCopy(5, kLoad, CopyClass::kPrefetch, 1));
  v.Drain();
  EXPECT_THAT(Order(v), ElementsAre(4, 3, 2, 5, 1));
}

TEST(LinkSchedulerTest, WithinAClassLowerRanksGoFirstThenFirstCome) {
  VirtualLink v(Options(1));
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1, 7));
  v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1, 0));
  v.Push(MakeCopy(3, kLoad, CopyClass::kDemand, 1, -5));
  v.Push(MakeCopy(4, kLoad, CopyClass::kDemand, 1, 0));
  v.Push(MakeCopy(5, kLoad, CopyClass::kPrefetch, 1, -99));
  v.Drain();
  EXPECT_THAT(Order(v), ElementsAre(3, 2, 4, 1, 5));
}

TEST(LinkSchedulerTest, GoesLayerByLayerOverAllBlocksInBoundedSlices) {
  LinkScheduler link(Options(2));
  link.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 25), At(0));
  std::vector<int> blocks;
  std::vector<int> layers;
  int arrived = 0;
  bool first = true;
  while (const auto slice = link.Start(At(0))) {
    EXPECT_EQ(slice->first, first);
    first = false;
    EXPECT_LE(static_cast<int64_t>(slice->blocks.size()) * kLayerBytes.value(), 1 << 20);
    layers.push_back(slice->layer);
    for (const Copy::Pair& pair : slice->blocks) blocks.push_back(pair.source.value());
    link.Moved(*slice, absl::OkStatus(), At(0));
    for (const LinkArrival& arrival : link.Arrive(At(0))) {
      EXPECT_EQ(arrival.layers, ++arrived);
      EXPECT_EQ(arrival.result.has_value(), arrived == 2);
    }
  }
  EXPECT_EQ(arrived, 2);
  EXPECT_TRUE(std::is_sorted(layers.begin(), layers.end()));
  ASSERT_EQ(blocks.size(), 50U);
  for (size_t i = 0; i < blocks.size(); ++i) EXPECT_EQ(blocks[i], static_cast<int>(i % 25));
}

// The rest of one slice is all that a running copy of any other direction or class may cost.
TEST(LinkSchedulerTest, ADemandLoadWaitsForOneSliceOfARunningStoreAtMost) {
  LinkScheduler link(Options(4));
  link.Push(MakeCopy(1, kStore, CopyClass::kWriteBack, 100), At(0));
  const auto store = link.Start(At(0));
  ASSERT_EQ(store->id, CopyId(1));
  link.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 20), At(0));
  link.Moved(*store, absl::OkStatus(), At(0));
  link.Arrive(At(0));
  // 4 layers of 2 slices; only then the store goes on.
  for (int i = 0; i < 8; ++i) {
    const auto slice = link.Start(At(0));
    ASSERT_EQ(slice->id, CopyId(2)) << i;
    link.Moved(*slice, absl::OkStatus(), At(0));
    link.Arrive(At(0));
  }
  EXPECT_EQ(link.Start(At(0))->id, CopyId(1));
}

TEST(LinkSchedulerTest, ADemandLoadOvertakesARunningPrefetchOfItsDirection) {
  LinkScheduler link(Options(1));
  link.Push(MakeCopy(1, kLoad, CopyClass::kPrefetch, 21), At(0));
  const auto slice = link.Start(At(0));
  link.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1), At(0));
  link.Moved(*slice, absl::OkStatus(), At(0));
  link.Arrive(At(0));
  EXPECT_EQ(link.Start(At(0))->id, CopyId(2));
}

TEST(LinkSchedulerTest, DirectionsOfOneClassTakeTurns) {
  VirtualLink v(Options(2));
  LinkScheduler& link = v.link;
  link.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1), At(0));
  link.Push(MakeCopy(2, kStore, CopyClass::kDemand, 1), At(0));
  std::vector<int64_t> order;
  while (const auto slice = link.Start(At(0))) {
    order.push_back(slice->id.value());
    link.Moved(*slice, absl::OkStatus(), At(0));
    link.Arrive(At(0));  // both directions are free each time
  }
  EXPECT_THAT(order, ElementsAre(1, 2, 1, 2));
}

// SGLang #38448: a 51 KB copy waited 12 ms behind 200 MB.
TEST(LinkSchedulerTest, AControlCopyWaitsForOneSliceOfABurstAtMost) {
  for (const bool coalesce : {false, true}) {
    LinkSchedulerOptions options = Options(32, 64e9);
    options.slice_bytes = MiB(1024);
    options.coalesce = coalesce;
    VirtualLink v(options);
    // 24 GB in 30 copies: 375 ms at 64 GB/s.
    for (int64_t id = 0; id < 30; ++id) v.Push(MakeCopy(id, kLoad, CopyClass::kDemand, 250));
    for (int64_t id = 100; id < 110; ++id) {
      v.RunTo(At(0.0301 * static_cast<double>(id - 99)));
      v.Push(MakeCopy(id, kLoad, CopyClass::kControl, 1));
    }
    v.Drain();
    EXPECT_NEAR(v.EndOf(29), 0.375, 0.001);
    for (int64_t id = 100; id < 110; ++id) {
      const double pushed = 0.0301 * static_cast<double>(id - 99);
      const double own = 32 * 100e3 / 64e9;
      EXPECT_LE(v.EndOf(id) - pushed, 1e-3 + own + 1e-9) << "copy " << id;
    }
  }
}

// The same burst does not hold up a load that matters more either.
TEST(LinkSchedulerTest, ALoadOfLowerRankGetsInBehindOneSliceOfABurst) {
  LinkSchedulerOptions options = Options(32, 64e9);
  options.slice_bytes = MiB(1024);
  options.coalesce = true;
  VirtualLink v(options);
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 7500, 1));
  v.RunTo(At(0.1));
  v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 20, 0));
  v.Drain();
  EXPECT_LE(v.EndOf(2), 0.1 + 1e-3 + 32 * 20 * 100e3 / 64e9 + 1e-9);
  EXPECT_NEAR(v.EndOf(1), 0.375 + 0.001, 1e-6);
}

TEST(LinkSchedulerTest, AnOverduePrefetchGoesBeforeYoungerDemandButNotBeforeControl) {
  LinkSchedulerOptions options = Options(1, 1e8);  // 1 ms per block
  options.promote_after = absl::Milliseconds(10);  // a prefetch: 20 ms
  VirtualLink v(options);
  v.Push(MakeCopy(1, kLoad, CopyClass::kPrefetch, 1));
  v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 19));
  v.RunTo(At(0.0155));
  v.Push(MakeCopy(3, kLoad, CopyClass::kDemand, 4));  // overdue at 25.5 ms
  v.RunTo(At(0.0185));
  v.Push(MakeCopy(4, kLoad, CopyClass::kDemand, 5));
  v.RunTo(At(0.0205));
  v.Push(MakeCopy(5, kLoad, CopyClass::kControl, 2));
  v.Drain();
  EXPECT_NEAR(v.EndOf(2), 0.019, 1e-9);
  // At 20 ms the prefetch comes before copy 3, which runs since 19 ms; the control copy comes at
  // 20.5 ms and finds the prefetch under way.
  EXPECT_NEAR(v.EndOf(1), 0.021, 1e-9);
  EXPECT_NEAR(v.EndOf(5), 0.023, 1e-9);
  EXPECT_NEAR(v.EndOf(3), 0.026, 1e-9);
  EXPECT_NEAR(v.EndOf(4), 0.031, 1e-9);
}

TEST(LinkSchedulerTest, ARankCannotPostponeADemandLoadForEver) {
  LinkSchedulerOptions options = Options(1, 1e8);
  options.promote_after = absl::Milliseconds(10);
  VirtualLink v(options);
  v.Push(MakeCopy(0, kLoad, CopyClass::kDemand, 1, 1000));
  v.Push(MakeCopy(41, kLoad, CopyClass::kDemand, 1));
  for (int64_t i = 1; i <= 40; ++i) {
    v.Push(MakeCopy(i, kLoad, CopyClass::kDemand, 1, -i));  // better and better
    v.RunTo(At(0.001 * static_cast<double>(i)));
  }
  v.Drain();
  EXPECT_NEAR(v.EndOf(0), 0.011, 1e-9);
}

TEST(LinkSchedulerTest, AFailedSliceEndsItsCopyAndNoOther) {
  for (const bool coalesce : {false, true}) {
    LinkSchedulerOptions options = Options(3, 1e8);
    options.coalesce = coalesce;
    VirtualLink v(options);
    v.now = At(1);
    v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1));
    v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1));
    const auto slice = v.link.Start(At(1));
    v.link.Moved(*slice, absl::DataLossError("bad"), At(1));
    v.Drain();
    ASSERT_EQ(v.ended.size(), 2U);
    const CopyResult& failed = *v.ended.at(1).arrival.result;
    EXPECT_THAT(failed.status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("bad")));
    EXPECT_EQ(failed.started, At(1));
    EXPECT_NEAR(Since0(failed.finished), 1.001, 1e-9);  // one layer, not three
    EXPECT_THAT(v.ended.at(2).status, IsOk());
    EXPECT_NEAR(v.EndOf(2), 1.004, 1e-9);
  }
}

// --- Revocation ---

TEST(LinkSchedulerTest, ARevokedCopyThatIsQueuedEndsAtOnceWithoutMovingAnything) {
  VirtualLink v(Options(4, 1e8));
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 10));
  v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 10));
  v.RunTo(At(0.0155));
  v.Revoke(2);
  EXPECT_EQ(v.link.next_event(), At(0.0155));
  EXPECT_EQ(v.link.size(), 1);
  v.Drain();
  EXPECT_EQ(v.EndOf(2), 0.0155);
  EXPECT_THAT(v.ended.at(2).status,
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("copy 2 was revoked after 0 of 4")));
  EXPECT_FALSE(v.ended.at(2).arrival.started);
  EXPECT_EQ(v.ended.at(2).arrival.result->bytes, Bytes(4'000'000));
  EXPECT_NEAR(v.EndOf(1), 0.04, 1e-9);
}

TEST(LinkSchedulerTest, ARevokedCopyUnderWayEndsWithItsSlice) {
  for (const bool coalesce : {false, true}) {
    LinkSchedulerOptions options = Options(4, 1e8);
    options.coalesce = coalesce;
    VirtualLink v(options);
    v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 10));
    v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1));
    v.RunTo(At(0.0155));
    v.Revoke(1);
    v.Drain();
    EXPECT_NEAR(v.EndOf(1), 0.016, 1e-9);
    EXPECT_THAT(v.ended.at(1).status,
                StatusIs(absl::StatusCode::kCancelled, HasSubstr("after 1 of 4 layers")));
    EXPECT_TRUE(v.ended.at(1).arrival.started);
    EXPECT_NEAR(v.EndOf(2), 0.020, 1e-9);
  }
}

TEST(LinkSchedulerTest, ACopyRevokedInItsLastSliceIsComplete) {
  VirtualLink v(Options(1, 1e8));
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 3));
  v.RunTo(At(0.0025));
  v.Revoke(1);
  v.Drain();
  EXPECT_THAT(v.ended.at(1).status, IsOk());
  EXPECT_NEAR(v.EndOf(1), 0.003, 1e-9);
}

TEST(LinkSchedulerTest, RevokingWhatHasEndedOrNeverCameIsIgnored) {
  VirtualLink v(Options(1));
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1));
  v.Drain();
  v.Revoke(1);
  v.Revoke(77);
  v.Drain();
  EXPECT_EQ(v.ended.at(1).times, 1);
  EXPECT_EQ(v.ended.size(), 1U);
}

// --- Coalesced runs ---

// 40 GB at 64 GB/s are 640 slices of a millisecond; alone on the line they are one call.
TEST(LinkSchedulerTest, ACopyWithoutCompetitionIsOneRun) {
  LinkSchedulerOptions options = Options(80, 64e9);
  options.slice_bytes = MiB(1024);
  options.coalesce = true;
  VirtualLink v(options);
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 5000));
  v.Drain();
  EXPECT_EQ(v.served.size(), 1U);
  EXPECT_NEAR(v.EndOf(1), 40e9 / 64e9, 1e-9);
}

TEST(LinkSchedulerTest, LayersOfARunArriveInTheirTimeForWhoeverAsks) {
  LinkSchedulerOptions options = Options(4, 1e8);
  options.coalesce = true;
  VirtualLink v(options);
  v.stop_at_layers = true;
  v.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 10));
  v.Drain();
  EXPECT_EQ(v.served.size(), 1U);
  for (int layer = 0; layer < 4; ++layer)
    EXPECT_NEAR(v.LayerTime(1, layer), 0.01 * (layer + 1), 1e-9);
}

TEST(LinkSchedulerTest, ARunThatHadToWaitTellsOfItsLayersToo) {
  LinkSchedulerOptions options = Options(4, 1e8);
  options.coalesce = true;
  VirtualLink v(options);
  v.stop_at_layers = true;
  v.Push(MakeCopy(1, kLoad, CopyClass::kPrefetch, 10));
  v.RunTo(At(0.0145));
  v.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1));  // 4 ms from 15 ms on
  v.Drain();
  EXPECT_NEAR(v.EndOf(2), 0.019, 1e-9);
  EXPECT_NEAR(v.LayerTime(1, 0), 0.010, 1e-9);
  EXPECT_NEAR(v.LayerTime(1, 1), 0.024, 1e-9);
  EXPECT_NEAR(v.LayerTime(1, 3), 0.044, 1e-9);
}

// --- Options ---

TEST(LinkSchedulerTest, OptionsOutOfRangeAreRefusedByName) {
  const auto refused = [](const auto& change) {
    LinkSchedulerOptions options = Options(1);
    EXPECT_THAT(options.Validate(), IsOk());
    change(options);
    return std::string(options.Validate().message());
  };
  EXPECT_THAT(refused([](auto& o) { o.layers = 0; }), HasSubstr("layers is 0; want at least 1"));
  EXPECT_THAT(refused([](auto& o) { o.layer_bytes = Bytes(0); }), HasSubstr("layer_bytes is 0"));
  EXPECT_THAT(refused([](auto& o) { o.lines[2].rate = ByteRate(-1); }),
              HasSubstr("lines[2].rate is -1"));
  EXPECT_THAT(refused([](auto& o) { o.lines[1].per_run = Seconds(-1); }),
              HasSubstr("lines[1].per_run is -1"));
  EXPECT_THAT(refused([](auto& o) { o.lines[3].latency = Seconds(-1); }),
              HasSubstr("lines[3].latency is -1"));
  EXPECT_THAT(refused([](auto& o) { o.duplex_share = 0; }), HasSubstr("duplex_share is 0"));
  EXPECT_THAT(refused([](auto& o) { o.write_back_share = 1.5; }),
              HasSubstr("write_back_share is 1.5"));
  EXPECT_THAT(refused([](auto& o) { o.slice_time = absl::ZeroDuration(); }),
              HasSubstr("slice_time is 0"));
  EXPECT_THAT(refused([](auto& o) { o.slice_bytes = Bytes(0); }), HasSubstr("slice_bytes is 0"));
  EXPECT_THAT(refused([](auto& o) { o.promote_after = -absl::Seconds(1); }),
              HasSubstr("promote_after is -1"));
}

}  // namespace
}  // namespace sluice::testing
