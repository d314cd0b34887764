#include "backend/kv/storage_link.h"

#include <condition_variable>
#include <mutex>

#include "absl/time/clock.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr KvShape kBlocks = {3, 16, 2, 32, KvElement::kBF16};

StoreShape ShapeOf(KvCodecKind codec) { return *StoredShape(kBlocks, KvCodecKind::kRaw, codec); }

class StorageLinkTest : public ::testing::Test {
 protected:
  // Of 8 host blocks, each filled with its number.
  StorageLinkOptions Options(BlockStore* store) {
    StorageLinkOptions options;
    options.store = store;
    options.blocks = kBlocks;
    options.link.host = [this](BlockId block) {
      const size_t size = kBlocks.block_bytes().size();
      return std::span(host_).subspan(block.index() * size, size);
    };
    options.link.host_blocks = Blocks(8);
    options.link.clock = absl::Now;
    for (size_t i = 0; i < host_.size(); ++i) {
      host_[i] = static_cast<std::byte>(i / kBlocks.block_bytes().size());
    }
    return options;
  }
  CopyResult WaitForOne(StorageLink& link) {
    std::vector<CopyResult> results;
    while (results.empty()) {
      std::unique_lock<std::mutex> lock(mu_);
      called_.wait(lock, [this] { return news_; });
      news_ = false;
      lock.unlock();
      link.TakeFinished(&results);
    }
    EXPECT_THAT(results, SizeIs(1));
    return results[0];
  }
  void Listen(StorageLink& link) {
    link.SetCopyListener([this] {
      const std::lock_guard<std::mutex> lock(mu_);
      news_ = true;
      called_.notify_all();
    });
  }

  const TempDir dir_;
  ActivityMeter meter_{absl::Now()};
  std::vector<std::byte> host_ = std::vector<std::byte>(8 * kBlocks.block_bytes().size());
  std::mutex mu_;
  std::condition_variable called_;
  bool news_ = false;
};

Copy MakeCopy(int64_t id, LinkDirection direction, int32_t from, int32_t to) {
  Copy copy;
  copy.id = CopyId(id);
  copy.direction = direction;
  copy.blocks = {{BlockId(from), BlockId(to)}};
  const TestBlock block = MakePrompt(1, 1, 0, ShapeOf(KvCodecKind::kRaw))[0];
  if (direction == LinkDirection::kHostToDisk) copy.tokens = block.tokens;
  if (direction == LinkDirection::kHostToDisk || direction == LinkDirection::kDiskToHost) {
    copy.identities = {block.identity};
  }
  return copy;
}

TEST_F(StorageLinkTest, WithoutAStoreAllCopiesAreTheOthers) {
  StorageLink link;
  ASSERT_THAT(link.Open({}, meter_), IsOk());
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kDeviceToHost, 0, 1),
                                    MakeCopy(2, LinkDirection::kHostToDisk, 0, 1)};
  std::vector<CopyId> others;
  link.StartCopies(copies, [&](std::span<const Copy> own) {
    for (const Copy& copy : own) others.push_back(copy.id);
  });
  EXPECT_THAT(others, ElementsAre(CopyId(1), CopyId(2)));
  link.RevokeCopies(others);
  link.ForgetDiskBlocks(std::vector<BlockId>{BlockId(1)});
  std::vector<CopyResult> results;
  link.TakeFinished(&results);
  EXPECT_THAT(results, IsEmpty());
}

TEST_F(StorageLinkTest, CopiesGoWhereTheyBelongAndComeBackDecoded) {
  const std::unique_ptr<DiskStore> store =
      OpenStore(SmallStore(dir_, 16, ShapeOf(KvCodecKind::kInt8)));
  StorageLink link;
  StorageLinkOptions options = Options(store.get());
  options.stored_codec = KvCodecKind::kInt8;
  ASSERT_THAT(link.Open(std::move(options), meter_), IsOk());
  Listen(link);
  const std::vector<Copy> copies = {MakeCopy(1, LinkDirection::kHostToDevice, 0, 1),
                                    MakeCopy(2, LinkDirection::kHostToDisk, 0, 5),
                                    MakeCopy(3, LinkDirection::kDeviceToHost, 0, 1)};
  std::vector<CopyId> others;
  link.StartCopies(copies, [&](std::span<const Copy> own) {
    for (const Copy& copy : own) others.push_back(copy.id);
  });
  EXPECT_THAT(others, ElementsAre(CopyId(1), CopyId(3)));
  CopyResult result = WaitForOne(link);
  EXPECT_EQ(result.id, CopyId(2));
  ASSERT_THAT(result.status, IsOk());
  const std::vector<Copy> back = {MakeCopy(4, LinkDirection::kDiskToHost, 5, 7)};
  link.StartCopies(back, [&](std::span<const Copy> own) { EXPECT_THAT(own, IsEmpty()); });
  ASSERT_THAT(WaitForOne(link).status, IsOk());
  EXPECT_THAT(host_.back(), std::byte{0}) << "block 0 holds zeros, which int8 keeps";
  link.ForgetDiskBlocks(std::vector<BlockId>{BlockId(5)});
  const std::vector<Copy> gone = {MakeCopy(5, LinkDirection::kDiskToHost, 5, 6)};
  link.StartCopies(gone, [](std::span<const Copy>) {});
  EXPECT_THAT(WaitForOne(link).failed, ElementsAre(0));
}

TEST_F(StorageLinkTest, ABlockThatCannotBeFilledIsNotReadInto) {
  const std::unique_ptr<DiskStore> store =
      OpenStore(SmallStore(dir_, 16, ShapeOf(KvCodecKind::kRaw)));
  StorageLink link;
  StorageLinkOptions options = Options(store.get());
  options.link.fillable = [](BlockId block) {
    return block == BlockId(6) ? absl::ResourceExhaustedError("no such memory") : absl::OkStatus();
  };
  ASSERT_THAT(link.Open(std::move(options), meter_), IsOk());
  Listen(link);
  const auto nobody = [](std::span<const Copy>) {};
  link.StartCopies(std::vector{MakeCopy(1, LinkDirection::kHostToDisk, 3, 5)}, nobody);
  ASSERT_THAT(WaitForOne(link).status, IsOk());
  link.StartCopies(std::vector{MakeCopy(2, LinkDirection::kDiskToHost, 5, 6)}, nobody);
  EXPECT_THAT(WaitForOne(link).status,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("no such memory")));
  EXPECT_EQ(host_[6 * kBlocks.block_bytes().size()], std::byte{6});
}

TEST_F(StorageLinkTest, AStoreThatDoesNotFitIsRefused) {
  const std::unique_ptr<DiskStore> store =
      OpenStore(SmallStore(dir_, 16, ShapeOf(KvCodecKind::kRaw)));
  StorageLink link;
  StorageLinkOptions options = Options(store.get());
  options.stored_codec = KvCodecKind::kFp8;
  EXPECT_THAT(link.Open(options, meter_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("blocks of 12288 bytes in 3 layers, want 6528 bytes")));
  options.host_codec = KvCodecKind::kInt8;
  EXPECT_THAT(link.Open(options, meter_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a host pool of int8")));
  options = Options(store.get());
  options.link.host_blocks = Blocks(0);
  EXPECT_THAT(link.Open(options, meter_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("needs a host pool")));
}

}  // namespace
}  // namespace sluice::testing
