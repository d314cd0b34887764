#include "backend/cpu/link.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr auto kLoad = LinkDirection::kHostToDevice;
constexpr auto kStore = LinkDirection::kDeviceToHost;

class LinkTest : public ::testing::Test {
 protected:
  LinkTest() : meter_(absl::Now()) {
    pools_ = *KvPools::Allocate(layout_, Blocks(8), Blocks(8));
    std::mt19937_64 random(1);
    for (int32_t b = 0; b < 8; ++b) {
      for (int64_t layer = 0; layer < layout_.layers; ++layer) {
        for (int64_t h = 0; h < layout_.kv_heads; ++h) {
          for (int64_t t = 0; t < layout_.page_tokens; ++t) {
            std::vector<float> kv(2 * static_cast<size_t>(layout_.head_dim));
            for (float& x : kv) x = static_cast<float>(random() % 1000);
            WriteToken(layout_, kv.data(), kv.data() + layout_.head_dim,
                       pools_.Page(layer, BlockId(b)) + h * layout_.head_bytes(), t);
          }
        }
      }
    }
  }

  void MakeLink(LinkOptions options) {
    link_ = std::make_unique<Link>(pools_, options, meter_);
    link_->SetListener([this] {
      std::lock_guard<std::mutex> lock(mu_);
      ++calls_;
      called_.notify_all();
    });
  }

  static Copy MakeCopy(int64_t id, LinkDirection direction, std::vector<Copy::Pair> blocks) {
    Copy copy;
    copy.id = CopyId(id);
    copy.direction = direction;
    copy.blocks = std::move(blocks);
    return copy;
  }

  // Waits until `count` results have come.
  std::vector<CopyResult> Take(size_t count) {
    std::vector<CopyResult> all;
    while (all.size() < count) {
      std::unique_lock<std::mutex> lock(mu_);
      called_.wait(lock, [this] { return calls_ > 0; });
      calls_ = 0;
      lock.unlock();
      for (CopyResult& result : link_->TakeFinished()) all.push_back(std::move(result));
    }
    return all;
  }

  std::vector<std::byte> DeviceBlock(int32_t block) const {
    std::vector<std::byte> bytes;
    for (int64_t layer = 0; layer < layout_.layers; ++layer) {
      const std::byte* page = pools_.Page(layer, BlockId(block));
      bytes.insert(bytes.end(), page, page + layout_.page_bytes());
    }
    return bytes;
  }

  KvLayout layout_{Element::kBF16, 4, 2, 40, 32};
  KvPools pools_;
  ActivityMeter meter_;
  std::mutex mu_;
  std::condition_variable called_;
  int calls_ = 0;
  std::unique_ptr<Link> link_;
};

TEST_F(LinkTest, StoredBlocksComeBackBitForBit) {
  MakeLink({});
  const std::vector<std::byte> one = DeviceBlock(1);
  const std::vector<std::byte> two = DeviceBlock(2);
  link_->Start(
      std::vector{MakeCopy(1, kStore, {{BlockId(1), BlockId(5)}, {BlockId(2), BlockId(0)}})});
  ASSERT_THAT(Take(1)[0].status, IsOk());
  link_->Start(
      std::vector{MakeCopy(2, kLoad, {{BlockId(5), BlockId(6)}, {BlockId(0), BlockId(7)}})});
  const CopyResult result = Take(1)[0];
  ASSERT_THAT(result.status, IsOk());
  EXPECT_EQ(result.bytes.value(), 2 * layout_.block_bytes().value());
  EXPECT_LE(result.started, result.finished);
  EXPECT_EQ(DeviceBlock(6), one);
  EXPECT_EQ(DeviceBlock(7), two);
  EXPECT_EQ(DeviceBlock(1), one);
}

TEST_F(LinkTest, EveryLayerCanBeWaitedForAndIsThereAfterwards) {
  MakeLink({.bytes_per_second = 20e6});  // 10 KiB per layer of a block: half a millisecond
  const std::vector<std::byte> want = DeviceBlock(1);
  link_->Start(std::vector{MakeCopy(1, kStore, {{BlockId(1), BlockId(1)}})});
  ASSERT_THAT(link_->WaitForLayer(CopyId(1), 3), IsOk());
  link_->Start(std::vector{MakeCopy(2, kLoad, {{BlockId(1), BlockId(3)}})});
  const auto page_bytes = static_cast<size_t>(layout_.page_bytes());
  for (int layer = 0; layer < 4; ++layer) {
    ASSERT_THAT(link_->WaitForLayer(CopyId(2), layer), IsOk());
    EXPECT_TRUE(link_->Settled(CopyId(2), layer));
    EXPECT_EQ(std::memcmp(pools_.Page(layer, BlockId(3)),
                          want.data() + static_cast<size_t>(layer) * page_bytes, page_bytes),
              0);
  }
  EXPECT_THAT(link_->WaitForLayer(CopyId(2), 0), IsOk());  // long done
}

TEST_F(LinkTest, WaitingForACopyThatWasNeverStartedIsAnError) {
  MakeLink({});
  EXPECT_THAT(link_->WaitForLayer(CopyId(9), 0),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("copy 9")));
}

TEST_F(LinkTest, APacedLinkIsNeverFasterThanStated) {
  MakeLink({.bytes_per_second = 10e6});
  const Bytes bytes(3 * layout_.block_bytes().value());
  link_->Start(std::vector{MakeCopy(
      1, kStore, {{BlockId(0), BlockId(0)}, {BlockId(1), BlockId(1)}, {BlockId(2), BlockId(2)}})});
  const CopyResult result = Take(1)[0];
  EXPECT_GE(absl::ToDoubleSeconds(result.finished - result.started),
            static_cast<double>(bytes.value()) / 10e6 * 0.999);
}

TEST_F(LinkTest, ACorruptedHostBlockFailsItsLoadOnlyWhenVerifying) {
  MakeLink({.verify = true});
  link_->Start(std::vector{MakeCopy(1, kStore, {{BlockId(1), BlockId(1)}}),
                           MakeCopy(2, kStore, {{BlockId(2), BlockId(2)}})});
  ASSERT_EQ(Take(2).size(), 2U);
  *(pools_.HostLayer(2, BlockId(1)) + 77) ^= std::byte{1};
  link_->Start(std::vector{MakeCopy(3, kLoad, {{BlockId(1), BlockId(4)}}),
                           MakeCopy(4, kLoad, {{BlockId(2), BlockId(5)}})});
  std::vector<CopyResult> results = Take(2);
  EXPECT_THAT(results[0].status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("layer 2")));
  EXPECT_THAT(results[1].status, IsOk());
  EXPECT_THAT(link_->WaitForLayer(CopyId(3), 3),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
  EXPECT_EQ(DeviceBlock(5), DeviceBlock(2));
}

// --- Revocation ---

TEST_F(LinkTest, ARevokedCopyEndsCancelledLongBeforeItsTime) {
  MakeLink({.bytes_per_second = 2e5});  // 0.2 s per block
  std::vector<Copy::Pair> all;
  for (int32_t b = 0; b < 8; ++b) all.push_back({BlockId(b), BlockId(b)});
  link_->Start(std::vector{MakeCopy(1, kStore, all), MakeCopy(2, kStore, all)});
  const std::vector<CopyId> both = {CopyId(2), CopyId(1)};
  const absl::Time before = absl::Now();
  link_->Revoke(both);
  const std::vector<CopyResult> results = Take(2);
  EXPECT_LT(absl::Now() - before, absl::Seconds(2));  // of 3.2
  for (const CopyResult& result : results) {
    EXPECT_THAT(result.status, StatusIs(absl::StatusCode::kCancelled, HasSubstr("revoked after")));
    EXPECT_THAT(link_->WaitForLayer(result.id, 3),
                StatusIs(absl::StatusCode::kCancelled, HasSubstr("revoked")));
  }
  const ActivitySnapshot s = meter_.Snapshot(absl::Now());
  EXPECT_EQ(s.links[1].in_flight, Bytes(0));
  EXPECT_EQ(s.links[1].moved, Bytes(0));
}

TEST_F(LinkTest, RevokingACopyThatHasEndedChangesNothing) {
  MakeLink({});
  link_->Start(std::vector{MakeCopy(1, kStore, {{BlockId(1), BlockId(1)}})});
  ASSERT_THAT(Take(1)[0].status, IsOk());
  link_->Revoke(std::vector{CopyId(1), CopyId(5)});
  link_->Start(std::vector{MakeCopy(2, kStore, {{BlockId(2), BlockId(2)}})});
  const std::vector<CopyResult> results = Take(1);
  EXPECT_EQ(results[0].id, CopyId(2));
  EXPECT_THAT(link_->WaitForLayer(CopyId(1), 3), IsOk());
}

TEST_F(LinkTest, CopiesOfLowerRankAreServedFirst) {
  MakeLink({.bytes_per_second = 10e6});  // 4 ms per copy
  std::vector<Copy> copies;
  for (int32_t b = 0; b < 4; ++b) {
    copies.push_back(MakeCopy(b, kStore, {{BlockId(b), BlockId(b)}}));
    copies.back().rank = -b;
  }
  link_->Start(copies);
  std::vector<int64_t> order;
  for (const CopyResult& result : Take(4)) order.push_back(result.id.value());
  EXPECT_THAT(order, ::testing::ElementsAre(3, 2, 1, 0));
}

TEST_F(LinkTest, CopiesFromAndToADiskAreRefusedAndTheOthersGoOn) {
  MakeLink({});
  link_->Start(std::vector{MakeCopy(1, LinkDirection::kDiskToHost, {{BlockId(1), BlockId(1)}}),
                           MakeCopy(2, LinkDirection::kHostToDisk, {{BlockId(1), BlockId(1)}}),
                           MakeCopy(3, kStore, {{BlockId(1), BlockId(1)}})});
  std::vector<CopyResult> results = Take(3);
  std::sort(results.begin(), results.end(),
            [](const CopyResult& a, const CopyResult& b) { return a.id < b.id; });
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_THAT(results[i].status, StatusIs(absl::StatusCode::kFailedPrecondition,
                                            HasSubstr("the CPU backend has none")));
    EXPECT_THAT(link_->WaitForLayer(results[i].id, 0),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("disk tier")));
  }
  EXPECT_THAT(results[2].status, IsOk());
}

TEST_F(LinkTest, BytesAndOperationsAreMetered) {
  MakeLink({.bytes_per_second = 20e6});
  link_->Start(std::vector{MakeCopy(1, kStore, {{BlockId(1), BlockId(1)}}),
                           MakeCopy(2, kLoad, {{BlockId(3), BlockId(3)}})});
  EXPECT_GT(meter_.Snapshot(absl::Now()).links[1].in_flight, Bytes(0));
  Take(2);
  const ActivitySnapshot s = meter_.Snapshot(absl::Now());
  for (const LinkDirection d : {kLoad, kStore}) {
    const ActivitySnapshot::Direction& direction = s.links[static_cast<size_t>(d)];
    EXPECT_EQ(direction.moved, layout_.block_bytes());
    EXPECT_EQ(direction.operations, 1);
    EXPECT_EQ(direction.in_flight, Bytes(0));
    EXPECT_GT(direction.busy, absl::ZeroDuration());
  }
  EXPECT_GT(s.transfer_only, absl::ZeroDuration());
}

TEST_F(LinkTest, StopsAtOnceInTheMiddleOfACopy) {
  MakeLink({.bytes_per_second = 1000});  // the copy would take a minute
  link_->Start(std::vector{MakeCopy(1, kStore, {{BlockId(1), BlockId(1)}})});
  link_.reset();
  SUCCEED();  // the test's time limit is the assertion
}

}  // namespace
}  // namespace sluice
