#include "backend/kv/disk_link.h"

#include "backend/kv/faulty_store.h"
#include "tests/backend/kv/link_world.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DiskLinkTest : public ::testing::Test {
 protected:
  DiskLinkTest() : store_(OpenStore(SmallStore(dir_))) {}

  const TempDir dir_;
  std::unique_ptr<DiskStore> store_;
};

TEST_F(DiskLinkTest, WhatIsWrittenComesBack) {
  LinkWorld world(*store_, 32);
  const std::vector<TestBlock> blocks = MakePrompt(1, 20);
  const CopyResult written = world.Spill(1, blocks, 0, 0);
  ASSERT_THAT(written.status, IsOk());
  EXPECT_EQ(written.bytes, Bytes(20 * 3 * 4096));
  EXPECT_LE(written.started, written.finished);
  world.ClearHost();
  ASSERT_THAT(world.Stage(2, blocks, 0, 7).status, IsOk());
  for (size_t i = 0; i < blocks.size(); ++i) EXPECT_EQ(world.HostBlock(7 + i), blocks[i].bytes);
  EXPECT_THAT(world.complaints(), IsEmpty());
}

TEST_F(DiskLinkTest, ABlockThatIsAnotherFailsAloneAndIsDropped) {
  LinkWorld world(*store_, 32);
  std::vector<TestBlock> blocks = MakePrompt(2, 4);
  ASSERT_THAT(world.Spill(1, blocks, 0, 0).status, IsOk());
  std::vector<TestBlock> wanted = blocks;
  wanted[2].identity = MakePrompt(3, 1)[0].identity;
  const CopyResult result = world.Stage(2, wanted, 0, 8);
  EXPECT_THAT(result.status,
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("1 of 4 blocks: disk KV slot 2")));
  EXPECT_THAT(result.failed, ElementsAre(2));
  EXPECT_EQ(result.corrupt, 1);
  EXPECT_EQ(world.HostBlock(9), blocks[1].bytes);
  EXPECT_EQ(world.HostBlock(11), blocks[3].bytes);
  EXPECT_THAT(world.complaints(), SizeIs(1));
  const CopyResult again = world.Stage(3, blocks, 0, 8);
  EXPECT_THAT(again.failed, ElementsAre(2)) << "gone, whoever asks";
}

TEST_F(DiskLinkTest, AnEmptySlotIsDataLoss) {
  LinkWorld world(*store_, 32);
  const CopyResult result = world.Stage(1, MakePrompt(4, 1), 5, 0);
  EXPECT_THAT(result.status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("slot 5")));
  EXPECT_EQ(result.corrupt, 1);
}

TEST_F(DiskLinkTest, ADiskThatRefusesEverythingEndsTheCopyAndIsToldOnce) {
  FaultyStore faulty(*store_, FaultyStoreOptions().With(StoreFault::kNoSpace, 1));
  LinkWorld world(faulty, 32);
  for (int64_t id = 1; id <= 5; ++id) {
    const CopyResult result = world.Spill(id, MakePrompt(5, 3), 0, 0);
    EXPECT_THAT(result.status,
                StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("3 of 3 blocks")));
    EXPECT_THAT(result.failed, ElementsAre(0, 1, 2));
    EXPECT_EQ(result.corrupt, 0);
  }
  ASSERT_THAT(world.complaints(), SizeIs(1));
  EXPECT_THAT(world.complaints()[0], HasSubstr("cannot write"));
}

TEST_F(DiskLinkTest, ARevokedCopyEndsAndLeavesNothingBehind) {
  LinkWorld world(*store_, 32);
  const std::vector<TestBlock> blocks = MakePrompt(6, 8);
  // The first is under way or done when both are taken back; the second comes after it.
  world.StartSpill(1, blocks, 0, 0);
  world.StartSpill(2, MakePrompt(7, 8), 20, 8);
  world.Revoke({CopyId(1), CopyId(2), CopyId(77)});
  const std::vector<CopyResult> results = world.Take(2);
  world.Stop();
  for (const CopyResult& result : results) {
    if (result.status.ok()) continue;  // it was too late
    EXPECT_THAT(result.status, StatusIs(absl::StatusCode::kCancelled, HasSubstr("revoked")));
    const int32_t first = result.id == CopyId(1) ? 0 : 20;
    for (int32_t slot = first; slot < first + 8; ++slot) {
      std::vector<std::byte> bytes;
      EXPECT_FALSE(ReadBack(*store_, BlockId(slot), blocks[0].identity, &bytes).ok());
    }
  }
}

TEST_F(DiskLinkTest, BothDirectionsRunAndTheMeterCountsThem) {
  LinkWorld world(*store_, 32);
  const std::vector<TestBlock> blocks = MakePrompt(8, 8);
  ASSERT_THAT(world.Spill(1, blocks, 0, 0).status, IsOk());
  world.StartStage(2, blocks, 0, 8);
  world.StartSpill(3, MakePrompt(9, 8), 30, 16);
  for (const CopyResult& result : world.Take(2)) EXPECT_THAT(result.status, IsOk());
  const ActivitySnapshot activity = world.Activity();
  const auto moved = [&](LinkDirection d) { return activity.links[static_cast<size_t>(d)].moved; };
  EXPECT_EQ(moved(LinkDirection::kHostToDisk), Bytes(16 * 3 * 4096));
  EXPECT_EQ(moved(LinkDirection::kDiskToHost), Bytes(8 * 3 * 4096));
  for (const auto& link : activity.links) EXPECT_EQ(link.in_flight, Bytes(0));
}

}  // namespace
}  // namespace sluice::testing
