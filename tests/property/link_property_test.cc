// Random copies against the rules of link_world.h.
#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tests/property/link_world.h"

namespace sluice::testing {
namespace {

constexpr uint64_t kSeedsPerCase = 250;

class LinkPropertyTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(LinkPropertyTest, KeepsOrderBoundsAndPaceAndEndsEveryCopyOnce) {
  for (uint64_t i = 0; i < kSeedsPerCase; ++i) {
    const uint64_t seed = GetParam() * kSeedsPerCase + i;
    LinkWorld world(RandomLinkWorldOptions(seed), seed);
    ASSERT_EQ(world.Run(), "") << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, LinkPropertyTest, ::testing::Range<uint64_t>(0, 8),
                         [](const auto& group) { return "Group" + std::to_string(group.param); });

TEST(LinkCoalesceTest, RunsOfSlicesArriveWhenTheSlicesWouldHave) {
  int64_t slices = 0;
  int64_t runs = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    LinkWorldOptions options = RandomLinkWorldOptions(seed);
    options.link.coalesce = false;
    LinkWorld sliced(options, seed);
    options.link.coalesce = true;
    LinkWorld coalesced(options, seed);
    ASSERT_EQ(sliced.Run(), "");
    ASSERT_EQ(coalesced.Run(), "");
    ASSERT_EQ(sliced.ends().size(), coalesced.ends().size());
    for (const auto& [id, end] : sliced.ends()) {
      const LinkWorld::End& other = coalesced.ends().at(id);
      ASSERT_NEAR(end.at, other.at, 1e-6) << "copy " << id;
      ASSERT_EQ(end.code, other.code) << "copy " << id;
      ASSERT_EQ(end.layers, other.layers) << "copy " << id;
    }
    ASSERT_EQ(sliced.layer_times().size(), coalesced.layer_times().size());
    for (const auto& [key, time] : sliced.layer_times()) {
      ASSERT_NEAR(time, coalesced.layer_times().at(key), 1e-6) << "copy " << key.first;
    }
    slices += sliced.slices();
    runs += coalesced.slices();
  }
  EXPECT_LT(runs, slices / 4);
}

// As a worker thread serves a link: moving takes time, and it wakes up late.
TEST(LinkLateWorkerTest, EveryCopyEndsOnceAndNoLineIsFasterThanStatedOrMuchSlower) {
  constexpr double kRate = 1e9;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    LinkSchedulerOptions options;
    options.layers = 1 + static_cast<int>(random() % 5);
    options.layer_bytes = Bytes(100'000);
    options.write_back_share = 1;
    for (LineOptions& line : options.lines) line.rate = ByteRate(kRate);
    LinkScheduler link(options);
    std::array<double, kLinkDirectionCount> bytes{};
    std::array<absl::Time, kLinkDirectionCount> last{};
    std::map<CopyId, int> ended;
    for (int64_t id = 0; id < 40; ++id) {
      Copy copy;
      copy.id = CopyId(id);
      copy.direction = static_cast<LinkDirection>(random() % kLinkDirectionCount);
      copy.copy_class = static_cast<CopyClass>(random() % kCopyClassCount);
      copy.blocks.resize(20 + random() % 60);
      bytes[static_cast<size_t>(copy.direction)] +=
          static_cast<double>(copy.blocks.size()) * 1e5 * options.layers;
      link.Push(std::move(copy), absl::UnixEpoch());
    }
    absl::Time now = absl::UnixEpoch();
    while (link.size() > 0) {
      for (const LinkArrival& arrival : link.Arrive(now)) {
        last[static_cast<size_t>(arrival.direction)] = now;
        if (arrival.result.has_value()) ++ended[arrival.id];
      }
      if (const auto slice = link.Start(now)) {
        now += absl::Microseconds(random() % 100);
        link.Moved(*slice, absl::OkStatus(), now);
      } else {
        now = std::max(now, link.next_event() + absl::Microseconds(random() % 99));
      }
    }
    EXPECT_EQ(ended.size(), 40U);
    for (const auto& [id, times] : ended) EXPECT_EQ(times, 1) << "copy " << id;
    for (size_t d = 0; d < bytes.size(); ++d) {
      if (bytes[d] == 0) continue;
      const double took = absl::ToDoubleSeconds(last[d] - absl::UnixEpoch());
      EXPECT_GE(took, bytes[d] / kRate - 1e-6) << "direction " << d;
      EXPECT_LE(took, bytes[d] / kRate * 1.01 + 1e-3) << "direction " << d;
    }
  }
}

TEST(LinkDeterminismTest, SameCallsGiveTheSameSlicesAtTheSameTimes) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    LinkWorld first(RandomLinkWorldOptions(seed), seed);
    LinkWorld second(RandomLinkWorldOptions(seed), seed);
    ASSERT_EQ(first.Run(), "") << "seed " << seed;
    ASSERT_EQ(second.Run(), "") << "seed " << seed;
    EXPECT_EQ(first.trace(), second.trace()) << "seed " << seed;
  }
}

// The random schedules are only worth something if they get everywhere.
TEST(LinkCoverageTest, RandomSchedulesReachEveryEndAndPromotion) {
  int64_t ok = 0, cancelled = 0, cancelled_midway = 0, failed = 0, overdue = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    LinkWorld world(RandomLinkWorldOptions(seed), seed);
    ASSERT_EQ(world.Run(), "") << "seed " << seed;
    for (const auto& [id, end] : world.ends()) {
      if (end.code == absl::StatusCode::kOk) ++ok;
      if (end.code == absl::StatusCode::kDataLoss) ++failed;
      if (end.code != absl::StatusCode::kCancelled) continue;
      ++cancelled;
      if (end.layers > 0) ++cancelled_midway;
    }
    overdue += world.served_overdue();
  }
  EXPECT_GT(ok, 1000);
  EXPECT_GT(cancelled, 200);
  EXPECT_GT(cancelled_midway, 20);
  EXPECT_GT(failed, 50);
  EXPECT_GT(overdue, 1000);
}

}  // namespace
}  // namespace sluice::testing
