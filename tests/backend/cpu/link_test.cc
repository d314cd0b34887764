#include "backend/cpu/link.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <limits>
#include <mutex>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
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
  LinkTest() : meter_(absl::Now()) { FillPages(1); }

  // New pools of layout_, with random whole numbers in all pages.
  void FillPages(uint64_t seed) {
    pools_ = *KvPools::Allocate(layout_, Blocks(8), Blocks(8));
    std::mt19937_64 random(seed);
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

// ---- With a codec on the host ------------------------------------------------------------------

class CodedLinkTest : public LinkTest {
 protected:
  // A pool like the fixture's, with the same pages, whose host blocks are encoded.
  void UseCodec(KvCodecKind kind) {
    KvCodecOptions codec;
    codec.kind = kind;
    KvPools coded = *KvPools::Allocate(layout_, Blocks(8), Blocks(8), codec);
    const auto bytes = static_cast<size_t>(layout_.layers * 8 * layout_.page_bytes());
    std::memcpy(coded.LayerPages(0), pools_.LayerPages(0), bytes);
    pools_ = std::move(coded);
  }

  // What a page is once its layer was encoded and decoded.
  std::vector<std::byte> RoundedBlock(int32_t block) const {
    const KvCodec& codec = *pools_.host_codec();
    std::vector<std::byte> plain(static_cast<size_t>(layout_.host_layer_bytes()));
    std::vector<std::byte> coded(codec.encoded_slice_bytes().size());
    std::vector<std::byte> page(static_cast<size_t>(layout_.page_bytes()));
    std::vector<std::byte> bytes;
    for (int64_t layer = 0; layer < layout_.layers; ++layer) {
      StorePage(layout_, pools_.Page(layer, BlockId(block)), plain.data());
      EXPECT_THAT(codec.EncodeLayer(plain, coded), IsOk());
      codec.DecodeLayer(coded, plain);
      LoadPage(layout_, plain.data(), page.data());
      bytes.insert(bytes.end(), page.begin(), page.end());
    }
    return bytes;
  }
};

constexpr KvCodecKind kCodecs[] = {KvCodecKind::kFp8, KvCodecKind::kInt8, KvCodecKind::kInt4};

TEST_F(CodedLinkTest, BlocksComeBackRoundedOnceAndFewerBytesMove) {
  for (const KvCodecKind kind : kCodecs) {
    UseCodec(kind);
    SCOPED_TRACE(pools_.host_codec()->name());
    MakeLink({.verify = true});
    const std::vector<std::byte> want = RoundedBlock(1);
    link_->Start(std::vector{MakeCopy(1, kStore, {{BlockId(1), BlockId(5)}})});
    const CopyResult stored = Take(1)[0];
    ASSERT_THAT(stored.status, IsOk());
    EXPECT_EQ(stored.bytes, pools_.host_codec()->encoded_block_bytes());
    EXPECT_LT(stored.bytes.value(), layout_.block_bytes().value() * 0.56);
    link_->Start(std::vector{MakeCopy(2, kLoad, {{BlockId(5), BlockId(6)}})});
    ASSERT_THAT(Take(1)[0].status, IsOk());
    EXPECT_EQ(DeviceBlock(6), want);
    EXPECT_NE(DeviceBlock(6), DeviceBlock(1)) << "nothing was rounded";
    EXPECT_EQ(meter_.Snapshot(absl::Now()).links[1].in_flight, Bytes(0));
    link_.reset();
  }
}

TEST_F(CodedLinkTest, AHostPoolIsExactlyItsBlocks) {
  for (const KvCodecKind kind : kCodecs) {
    UseCodec(kind);
    const Bytes each = pools_.host_codec()->encoded_block_bytes();
    EXPECT_EQ(pools_.host_block_bytes(), each);
    EXPECT_EQ(pools_.HostLayer(0, BlockId(7)) - pools_.HostLayer(0, BlockId(0)), 7 * each.value());
    EXPECT_EQ(pools_.HostLayer(1, BlockId(0)) - pools_.HostLayer(0, BlockId(0)),
              pools_.host_codec()->encoded_slice_bytes().value());
  }
}

TEST_F(CodedLinkTest, EncodedBytesArePaced) {
  UseCodec(KvCodecKind::kInt8);
  MakeLink({.bytes_per_second = 10e6});
  link_->Start(std::vector{MakeCopy(1, kStore, {{BlockId(0), BlockId(0)}})});
  const CopyResult result = Take(1)[0];
  const double took = absl::ToDoubleSeconds(result.finished - result.started);
  EXPECT_GE(took, AsDouble(pools_.host_block_bytes()) / 10e6 * 0.999);
}

TEST_F(CodedLinkTest, KvThatIsNotFiniteIsNotKeptAndTheNextCopyIsFine) {
  UseCodec(KvCodecKind::kInt8);
  const std::vector<float> bad(static_cast<size_t>(layout_.head_dim),
                               std::numeric_limits<float>::quiet_NaN());
  WriteToken(layout_, bad.data(), bad.data(), pools_.Page(2, BlockId(1)), 3);
  MakeLink({});
  link_->Start(std::vector{MakeCopy(1, kStore, {{BlockId(1), BlockId(1)}}),
                           MakeCopy(2, kStore, {{BlockId(2), BlockId(2)}})});
  std::vector<CopyResult> results = Take(2);
  std::sort(results.begin(), results.end(),
            [](const CopyResult& a, const CopyResult& b) { return a.id < b.id; });
  EXPECT_THAT(results[0].status, StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("not finite")));
  EXPECT_THAT(results[1].status, IsOk());
  const ActivitySnapshot s = meter_.Snapshot(absl::Now());
  EXPECT_EQ(s.links[1].moved, pools_.host_block_bytes());
  EXPECT_EQ(s.links[1].in_flight, Bytes(0));
}

// Copies in both directions, some revoked at some moment: whatever ends well is in place and right,
// whatever was not touched is as it was.
TEST_F(CodedLinkTest, RandomCopiesAndRevocationsNeverLeaveWrongKv) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](uint64_t below) { return static_cast<int32_t>(random() % below); };
    layout_ = {random() % 2 == 0 ? Element::kBF16 : Element::kF32, 1 + draw(4), 1 + draw(3),
               2 * (1 + draw(70)), 16 * (1 + draw(3))};
    FillPages(seed);
    UseCodec(kCodecs[random() % 3]);
    SCOPED_TRACE(absl::StrCat("seed ", seed, " ", pools_.host_codec()->name()));
    MakeLink({.bytes_per_second = random() % 2 == 0 ? 0 : 50e6});
    // Pages 0 to 3 are stored to the same host blocks, and loaded to pages 4 to 7.
    std::vector<std::vector<std::byte>> rounded;
    for (int32_t b = 0; b < 4; ++b) rounded.push_back(RoundedBlock(b));
    std::vector<bool> kept(4);
    std::vector<Copy> copies;
    for (int32_t b = 0; b < 4; ++b)
      copies.push_back(MakeCopy(b, kStore, {{BlockId(b), BlockId(b)}}));
    link_->Start(copies);
    if (random() % 2 == 0) link_->Revoke(std::vector{CopyId(draw(4)), CopyId(draw(4))});
    for (const CopyResult& result : Take(4)) {
      kept[static_cast<size_t>(result.id.value())] = result.status.ok();
    }
    int64_t id = 10;
    std::vector<size_t> loading;
    copies.clear();
    for (int32_t b = 0; b < 4; ++b) {
      if (!kept[static_cast<size_t>(b)]) continue;
      loading.push_back(static_cast<size_t>(b));
      copies.push_back(MakeCopy(id++, kLoad, {{BlockId(b), BlockId(b + 4)}}));
    }
    link_->Start(copies);
    const size_t revoked = random() % 2 == 0 ? 0 : 99;
    if (revoked == 0) link_->Revoke(std::vector{CopyId(10)});
    for (const CopyResult& result : Take(copies.size())) {
      const size_t b = loading[static_cast<size_t>(result.id.value() - 10)];
      if (result.status.ok()) {
        ASSERT_EQ(DeviceBlock(static_cast<int32_t>(b) + 4), rounded[b]);
      } else {
        ASSERT_TRUE(absl::IsCancelled(result.status)) << result.status;
        ASSERT_EQ(b, loading[revoked]);
      }
    }
    link_.reset();
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

TEST_F(LinkTest, StopsAtOnceInTheMiddleOfACopy) {
  MakeLink({.bytes_per_second = 1000});  // the copy would take a minute
  link_->Start(std::vector{MakeCopy(1, kStore, {{BlockId(1), BlockId(1)}})});
  link_.reset();
  SUCCEED();  // the test's time limit is the assertion
}

}  // namespace
}  // namespace sluice
