// The link's order and pace, in virtual time.
#include "backend/cpu/link_queue.h"

#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

constexpr Bytes kLayerBytes(100'000);
constexpr auto kLoad = LinkDirection::kHostToDevice;
constexpr auto kStore = LinkDirection::kDeviceToHost;

Copy MakeCopy(int64_t id, LinkDirection direction, CopyClass copy_class, int blocks) {
  Copy copy;
  copy.id = CopyId(id);
  copy.direction = direction;
  copy.copy_class = copy_class;
  for (int32_t b = 0; b < blocks; ++b) copy.blocks.push_back({BlockId(b), BlockId(b)});
  return copy;
}

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

// Moves everything in no time and returns the ids in the order their slices began.
std::vector<int64_t> DrainUnpaced(LinkQueue& queue) {
  std::vector<int64_t> order;
  while (const auto slice = queue.Start(At(0))) {
    order.push_back(slice->id.value());
    queue.Moved(*slice, absl::OkStatus(), At(0));
    queue.Arrive(At(0));
  }
  return order;
}

TEST(LinkQueueTest, ServesClassesInOrderAndOneClassFirstComeFirstServed) {
  LinkQueue queue(1, kLayerBytes, 0);
  queue.Push(MakeCopy(1, kLoad, CopyClass::kWriteBack, 1));
  queue.Push(MakeCopy(2, kLoad, CopyClass::kPrefetch, 1));
  queue.Push(MakeCopy(3, kLoad, CopyClass::kDemand, 1));
  queue.Push(MakeCopy(4, kLoad, CopyClass::kDemand, 1));
  queue.Push(MakeCopy(5, kLoad, CopyClass::kPrefetch, 1));
  EXPECT_THAT(DrainUnpaced(queue), ::testing::ElementsAre(3, 4, 2, 5, 1));
}

TEST(LinkQueueTest, GoesLayerByLayerOverAllBlocksInBoundedSlices) {
  LinkQueue queue(2, kLayerBytes, 0);
  queue.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 25));
  std::vector<int> blocks;
  std::vector<int> layers;
  int arrived = 0;
  bool first = true;
  while (const auto slice = queue.Start(At(0))) {
    EXPECT_EQ(slice->first, first);
    first = false;
    EXPECT_LE(static_cast<int64_t>(slice->blocks.size()) * kLayerBytes.value(), 1 << 20);
    layers.push_back(slice->layer);
    for (const Copy::Pair& pair : slice->blocks) blocks.push_back(pair.source.value());
    queue.Moved(*slice, absl::OkStatus(), At(0));
    for (const LinkArrival& arrival : queue.Arrive(At(0))) {
      EXPECT_EQ(arrival.layers, ++arrived);
      EXPECT_EQ(arrival.result.has_value(), arrived == 2);
    }
  }
  EXPECT_EQ(arrived, 2);
  EXPECT_TRUE(std::is_sorted(layers.begin(), layers.end()));
  ASSERT_EQ(blocks.size(), 50U);
  for (size_t i = 0; i < blocks.size(); ++i) EXPECT_EQ(blocks[i], static_cast<int>(i % 25));
}

TEST(LinkQueueTest, ADemandLoadWaitsForOneSliceOfARunningStoreAtMost) {
  LinkQueue queue(4, kLayerBytes, 0);
  queue.Push(MakeCopy(1, kStore, CopyClass::kWriteBack, 100));
  const auto store = queue.Start(At(0));
  ASSERT_EQ(store->id, CopyId(1));
  queue.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 20));
  queue.Moved(*store, absl::OkStatus(), At(0));
  queue.Arrive(At(0));
  // 4 layers of 2 slices; only then the store goes on.
  for (int i = 0; i < 8; ++i) {
    const auto slice = queue.Start(At(0));
    ASSERT_EQ(slice->id, CopyId(2)) << i;
    queue.Moved(*slice, absl::OkStatus(), At(0));
    queue.Arrive(At(0));
  }
  EXPECT_EQ(queue.Start(At(0))->id, CopyId(1));
}

TEST(LinkQueueTest, ADemandLoadOvertakesARunningPrefetchOfItsDirection) {
  LinkQueue queue(1, kLayerBytes, 0);
  queue.Push(MakeCopy(1, kLoad, CopyClass::kPrefetch, 21));
  const auto slice = queue.Start(At(0));
  queue.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1));
  queue.Moved(*slice, absl::OkStatus(), At(0));
  queue.Arrive(At(0));
  EXPECT_THAT(DrainUnpaced(queue), ::testing::ElementsAre(2, 1, 1));
}

TEST(LinkQueueTest, DirectionsOfOneClassTakeTurns) {
  LinkQueue queue(2, kLayerBytes, 0);
  queue.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1));
  queue.Push(MakeCopy(2, kStore, CopyClass::kDemand, 1));
  EXPECT_THAT(DrainUnpaced(queue), ::testing::ElementsAre(1, 2, 1, 2));
}

TEST(LinkQueueTest, AFailedSliceEndsItsCopyAndNoOther) {
  LinkQueue queue(3, kLayerBytes, 0);
  queue.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1));
  queue.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1));
  const auto slice = queue.Start(At(1));
  queue.Moved(*slice, absl::DataLossError("bad"), At(2));
  const auto arrivals = queue.Arrive(At(2));
  ASSERT_EQ(arrivals.size(), 1U);
  ASSERT_TRUE(arrivals[0].result.has_value());
  EXPECT_EQ(arrivals[0].result->id, CopyId(1));
  EXPECT_TRUE(absl::IsDataLoss(arrivals[0].result->status));
  EXPECT_EQ(arrivals[0].result->started, At(1));
  EXPECT_EQ(arrivals[0].result->finished, At(2));
  EXPECT_THAT(DrainUnpaced(queue), ::testing::ElementsAre(2, 2, 2));
}

// Runs the queue as a worker would that needs `move` per slice and wakes up `late` after the time
// it asked for. Returns when the last slice arrived.
absl::Time DrainPaced(LinkQueue& queue, absl::Time now, absl::Duration move, absl::Duration late,
                      const std::function<void(absl::Time, const LinkArrival&)>& on_arrival) {
  absl::Time last = now;
  while (true) {
    for (const LinkArrival& arrival : queue.Arrive(now)) {
      last = now;
      on_arrival(now, arrival);
    }
    if (const auto slice = queue.Start(now)) {
      now += move;
      queue.Moved(*slice, absl::OkStatus(), now);
      continue;
    }
    if (queue.next_arrival() == absl::InfiniteFuture()) return last;
    now = std::max(now, queue.next_arrival() + late);
  }
}

TEST(LinkQueueTest, PacedCopiesTakeTheirBytesAtTheStatedRate) {
  constexpr double kRate = 1e9;
  LinkQueue queue(10, kLayerBytes, kRate);
  for (int i = 0; i < 5; ++i) queue.Push(MakeCopy(i, kLoad, CopyClass::kDemand, 40));
  const double ideal = 5 * 10 * 40 * 1e5 / kRate;  // 0.2 s
  const absl::Time end = DrainPaced(queue, At(5), absl::Microseconds(50), absl::Microseconds(100),
                                    [](absl::Time, const LinkArrival&) {});
  EXPECT_GE(absl::ToDoubleSeconds(end - At(5)), ideal);
  EXPECT_LE(absl::ToDoubleSeconds(end - At(5)), ideal * 1.01);
}

TEST(LinkQueueTest, DirectionsArePacedApart) {
  LinkQueue queue(10, kLayerBytes, 1e9);
  queue.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 40));
  queue.Push(MakeCopy(2, kStore, CopyClass::kWriteBack, 40));
  const absl::Time end = DrainPaced(queue, At(0), absl::Microseconds(20), absl::ZeroDuration(),
                                    [](absl::Time, const LinkArrival&) {});
  EXPECT_NEAR(absl::ToDoubleSeconds(end - At(0)), 0.04, 0.001);
}

TEST(LinkQueueTest, LayersArriveEvenlyAtThePacedRate) {
  LinkQueue queue(4, kLayerBytes, 1e8);
  queue.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 10));
  std::vector<double> times;
  DrainPaced(queue, At(0), absl::ZeroDuration(), absl::ZeroDuration(),
             [&](absl::Time now, const LinkArrival&) {
               times.push_back(absl::ToDoubleSeconds(now - At(0)));
             });
  ASSERT_EQ(times.size(), 4U);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(times[i], 0.01 * static_cast<double>(i + 1), 1e-6);
}

TEST(LinkQueueTest, AnIdleLineEarnsNoCredit) {
  LinkQueue queue(1, kLayerBytes, 1e8);
  queue.Push(MakeCopy(1, kLoad, CopyClass::kDemand, 1));
  const auto ignore = [](absl::Time, const LinkArrival&) {};
  EXPECT_EQ(DrainPaced(queue, At(0), absl::ZeroDuration(), absl::ZeroDuration(), ignore),
            At(0.001));
  queue.Push(MakeCopy(2, kLoad, CopyClass::kDemand, 1));
  EXPECT_EQ(DrainPaced(queue, At(10), absl::ZeroDuration(), absl::ZeroDuration(), ignore),
            At(10.001));
}

TEST(LinkQueueTest, RandomCopiesAllEndOnceAndNoLayerIsSkipped) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    const int layers = 1 + static_cast<int>(random() % 5);
    const double rate = random() % 2 == 0 ? 0 : 1e9;
    LinkQueue queue(layers, kLayerBytes, rate);
    std::vector<int> arrived(60, 0);
    std::vector<int> ended(60, 0);
    absl::Time now = At(0);
    for (int64_t id = 0; id < 60; ++id) {
      queue.Push(MakeCopy(id, random() % 2 == 0 ? kLoad : kStore,
                          static_cast<CopyClass>(random() % 3),
                          1 + static_cast<int>(random() % 30)));
      now = DrainPaced(queue, now, absl::Microseconds(random() % 300),
                       absl::Microseconds(random() % 99),
                       [&](absl::Time, const LinkArrival& arrival) {
                         const auto i = static_cast<size_t>(arrival.id.value());
                         EXPECT_EQ(arrival.layers, ++arrived[i]);
                         if (arrival.result.has_value()) ++ended[i];
                       });
    }
    EXPECT_THAT(arrived, ::testing::Each(layers));
    EXPECT_THAT(ended, ::testing::Each(1));
  }
}

}  // namespace
}  // namespace sluice
