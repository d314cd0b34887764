#include "backend/kv/tiered_store.h"

#include <fcntl.h>
#include <unistd.h>

#include "backend/kv/faulty_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/backend/kv/link_world.h"
#include "tests/backend/kv/remote_fixture.h"
#include "tests/backend/kv/shared_memory_store.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSlots = 64;
constexpr absl::Duration kLong = absl::Seconds(60);

class TieredStoreTest : public ::testing::Test {
 protected:
  TieredStoreTest() : values_(std::make_shared<SharedMemoryStore::Values>()) { OpenDisk(); }

  void OpenDisk() {
    DiskStoreOptions options = SmallStore(dir_, kSlots);
    options.io = FileIoMethod::kThreads;
    options.direct = false;
    absl::StatusOr<std::unique_ptr<DiskStore>> store = DiskStore::Open(options);
    ASSERT_THAT(store, IsOk());
    disk_ = *std::move(store);
    remote_ = std::make_unique<SharedMemoryStore>(
        SmallShape(), Blocks(kSlots) + TieredStore::kRemoteExtra, values_);
    Open(*disk_, *remote_);
  }
  void Open(BlockStore& disk, BlockStore& remote, TieredStoreOptions options = {}) {
    both_.reset();
    both_ = std::make_unique<TieredStore>(disk, remote, options);
    absl::StatusOr<StoreContent> content = both_->Scan();
    ASSERT_THAT(content, IsOk());
    content_ = *std::move(content);
  }
  void Restart() {
    both_.reset();
    disk_.reset();
    OpenDisk();
  }
  void Write(const std::vector<TestBlock>& blocks, int32_t slot = 0) {
    ASSERT_THAT(WriteAll(*both_, blocks, slot), IsOk());
    ASSERT_TRUE(both_->Flush(kLong));
  }
  // As an arriving prompt's blocks that another server has written.
  void Bind(const std::vector<TestBlock>& blocks, int32_t slot = 0) {
    std::vector<StoredBlock> bound;
    for (const TestBlock& block : blocks) {
      bound.push_back({BlockId(slot++), block.identity, block.tokens});
    }
    both_->Bind(bound);
  }
  // What another server has written to the remote store.
  void WriteElsewhere(const std::vector<TestBlock>& blocks) {
    SharedMemoryStore other(SmallShape(), Blocks(kSlots), values_);
    ASSERT_THAT(WriteAll(other, blocks), IsOk());
  }
  absl::Status Read(const TestBlock& block, int32_t slot) {
    std::vector<std::byte> bytes;
    const absl::Status status = ReadBack(*both_, BlockId(slot), block.identity, &bytes);
    if (status.ok()) {
      EXPECT_EQ(bytes, block.bytes);
    }
    return status;
  }
  void ExpectAll(const std::vector<TestBlock>& blocks, int32_t slot = 0) {
    for (const TestBlock& block : blocks) EXPECT_THAT(Read(block, slot++), IsOk());
  }
  void FlipOnDisk(int32_t slot) {
    const int file = open((disk_->directory() + "/segment-000000").c_str(), O_RDWR);
    ASSERT_GE(file, 0);
    char byte = 0;
    const int64_t at = slot * SmallShape().payload.value() + 99;
    ASSERT_EQ(pread(file, &byte, 1, at), 1);
    byte = static_cast<char>(byte ^ 16);
    ASSERT_EQ(pwrite(file, &byte, 1, at), 1);
    close(file);
  }

  const TempDir dir_;
  const std::shared_ptr<SharedMemoryStore::Values> values_;
  std::unique_ptr<DiskStore> disk_;
  std::unique_ptr<SharedMemoryStore> remote_;
  std::unique_ptr<TieredStore> both_;
  StoreContent content_;
};

TEST_F(TieredStoreTest, WhatIsWrittenIsInBothPlacesAndReadFromTheDisk) {
  const std::vector<TestBlock> blocks = MakePrompt(1, 5);
  Write(blocks);
  for (const TestBlock& block : blocks) EXPECT_TRUE(remote_->Has(block.identity));
  ExpectAll(blocks);
  const TieredStats stats = both_->stats();
  EXPECT_EQ(stats.disk_blocks, 5);
  EXPECT_EQ(stats.disk_bytes, Bytes(5 * 3 * 4096));
  EXPECT_EQ(stats.remote_blocks, 0);
  EXPECT_EQ(stats.copied, 5);
  EXPECT_EQ(stats.waiting, Bytes(0));
  EXPECT_STREQ(both_->place(), "disk+remote");
  EXPECT_TRUE(both_->shared());
  EXPECT_THAT(both_->description(), HasSubstr("shared memory"));
}

TEST_F(TieredStoreTest, ABlockThatIsDamagedOnTheDiskComesFromTheRemoteStoreAndIsWrittenAgain) {
  const std::vector<TestBlock> blocks = MakePrompt(2, 4);
  Write(blocks);
  FlipOnDisk(1);
  ASSERT_THAT(disk_->Drop(BlockId(3)), IsOk());  // its record is lost
  ExpectAll(blocks);
  TieredStats stats = both_->stats();
  EXPECT_EQ(stats.disk_blocks, 2);
  EXPECT_EQ(stats.remote_blocks, 2);
  EXPECT_EQ(stats.rescued, 2);
  EXPECT_EQ(stats.disk_failed, 2);
  EXPECT_EQ(stats.disk_corrupt, 1);
  ASSERT_TRUE(both_->Flush(kLong));
  remote_->SetAway(true);
  ExpectAll(blocks);
  EXPECT_EQ(both_->stats().filled, 2);
  EXPECT_EQ(both_->stats().lost, 0);
}

TEST_F(TieredStoreTest, PartsOfABlockAreRescuedTooAndNotTakenForAllOfIt) {
  const std::vector<TestBlock> blocks = MakePrompt(3, 1);
  Write(blocks);
  FlipOnDisk(0);
  std::vector<std::byte> layer(4096);
  std::vector<StoreRead> reads(1);
  reads[0].slot = BlockId(0);
  reads[0].first_layer = 0;
  reads[0].out = layer;
  both_->Read(reads, [](size_t) {});
  ASSERT_THAT(reads[0].status, IsOk());
  EXPECT_TRUE(std::equal(layer.begin(), layer.end(), blocks[0].bytes.begin()));
  ASSERT_TRUE(both_->Flush(kLong));
  EXPECT_EQ(both_->stats().rescued, 1);
  EXPECT_EQ(both_->stats().filled + both_->stats().fills_full, 0);
}

TEST_F(TieredStoreTest, WhatAnotherServerHasWrittenIsReadAndThenOnThisDisk) {
  const std::vector<TestBlock> blocks = MakePrompt(4, 6);
  WriteElsewhere(blocks);
  Bind(blocks, 10);
  ExpectAll(blocks, 10);
  ASSERT_TRUE(both_->Flush(kLong));
  EXPECT_EQ(both_->stats().remote_blocks, 6);
  EXPECT_EQ(both_->stats().filled, 6);
  EXPECT_EQ(both_->stats().rescued, 0);
  ExpectAll(blocks, 10);
  EXPECT_EQ(both_->stats().disk_blocks, 6);
  Restart();
  EXPECT_EQ(content_.blocks.size(), 6U);  // with their prefix, so they were written in order
  remote_->SetAway(true);
  ExpectAll(blocks, 10);
}

TEST_F(TieredStoreTest, ValuesThatWereReadStayThereForOthers) {
  const std::vector<TestBlock> blocks = MakePrompt(5, 3);
  WriteElsewhere(blocks);
  Bind(blocks);
  ExpectAll(blocks);
  for (int32_t slot = 0; slot < 3; ++slot) ASSERT_THAT(both_->Drop(BlockId(slot)), IsOk());
  for (const TestBlock& block : blocks) EXPECT_TRUE(remote_->Has(block.identity));
  EXPECT_EQ(Read(blocks[0], 0).code(), absl::StatusCode::kDataLoss);
}

TEST_F(TieredStoreTest, AValueThatIsBadIsRemovedThere) {
  const std::vector<TestBlock> blocks = MakePrompt(6, 2);
  WriteElsewhere(blocks);
  remote_->Flip(blocks[1].identity);
  Bind(blocks);
  EXPECT_THAT(Read(blocks[0], 0), IsOk());
  EXPECT_THAT(Read(blocks[1], 1), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
  EXPECT_FALSE(remote_->Has(blocks[1].identity));
  EXPECT_TRUE(remote_->Has(blocks[0].identity));
  EXPECT_EQ(both_->stats().remote_corrupt, 1);
  EXPECT_EQ(both_->stats().lost, 1);
}

TEST_F(TieredStoreTest, ABlockThatBothHaveLostIsDataLossAndOneThatOnlyTheRemoteHadIsNotFound) {
  const std::vector<TestBlock> mine = MakePrompt(7, 1);
  Write(mine);
  FlipOnDisk(0);
  values_->by_name.clear();
  EXPECT_THAT(Read(mine[0], 0),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("nor is it in the remote store")));
  const std::vector<TestBlock> theirs = MakePrompt(8, 1);
  Bind(theirs, 5);
  EXPECT_EQ(Read(theirs[0], 5).code(), absl::StatusCode::kNotFound);
  remote_->SetAway(true);  // an outage there says nothing of the disk
  EXPECT_THAT(Read(theirs[0], 5), StatusIs(absl::StatusCode::kNotFound, HasSubstr("nobody")));
}

TEST_F(TieredStoreTest, ARemoteStoreThatIsAwayCostsNothingButTheCopies) {
  remote_->SetAway(true);
  const std::vector<TestBlock> blocks = MakePrompt(9, 4);
  Write(blocks);
  ExpectAll(blocks);
  EXPECT_EQ(both_->stats().copies_away, 4);
  EXPECT_EQ(both_->stats().disk_blocks, 4);
}

TEST_F(TieredStoreTest, ARemoteStoreThatHangsHoldsUpNoWriteAndCopiesAreBounded) {
  TieredStoreOptions options;
  options.copies = Bytes(8 * 3 * 4096);
  Open(*disk_, *remote_, options);
  remote_->Hang();
  const std::vector<TestBlock> blocks = MakePrompt(10, 40);
  ASSERT_THAT(WriteAll(*both_, blocks), IsOk());
  TieredStats stats = both_->stats();
  EXPECT_EQ(stats.copies_full, 32);
  EXPECT_EQ(stats.waiting, Bytes(8 * 3 * 4096));
  EXPECT_FALSE(both_->Flush(absl::Milliseconds(1)));
  ExpectAll(blocks);
  remote_->LetGo();
  ASSERT_TRUE(both_->Flush(kLong));
  EXPECT_EQ(both_->stats().copied, 8);
}

TEST_F(TieredStoreTest, ABlockThatTheDiskRefusesIsInTheRemoteStoreOnly) {
  FaultyStore full(*disk_, FaultyStoreOptions().With(StoreFault::kNoSpace, 1));
  Open(full, *remote_);
  const std::vector<TestBlock> blocks = MakePrompt(11, 3);
  Write(blocks);
  EXPECT_EQ(both_->stats().remote_only, 3);
  ExpectAll(blocks);
  EXPECT_EQ(both_->stats().remote_blocks, 3);
  ASSERT_TRUE(both_->Flush(kLong));
  EXPECT_EQ(both_->stats().fills_failed, 3);
  remote_->SetAway(true);
  EXPECT_THAT(WriteAll(*both_, MakePrompt(12, 1), 9),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("no space")));
  both_.reset();
}

TEST_F(TieredStoreTest, AnErasedBlockIsInNeitherPlaceEvenIfItsCopyWasOnItsWay) {
  const std::vector<TestBlock> blocks = MakePrompt(13, 3);
  remote_->Hang();
  ASSERT_THAT(WriteAll(*both_, blocks), IsOk());
  remote_->WaitUntilHanging();
  std::thread eraser([&] {
    for (int32_t slot = 0; slot < 3; ++slot) EXPECT_THAT(both_->Erase(BlockId(slot)), IsOk());
  });
  remote_->LetGo();
  eraser.join();
  ASSERT_TRUE(both_->Flush(kLong));
  for (const TestBlock& block : blocks) EXPECT_FALSE(remote_->Has(block.identity));
  Restart();
  EXPECT_TRUE(content_.blocks.empty());
}

TEST_F(TieredStoreTest, ASlotThatIsBoundToAnotherBlockForgetsItsOwn) {
  const std::vector<TestBlock> old = MakePrompt(14, 2);
  Write(old);
  const std::vector<TestBlock> fresh = MakePrompt(15, 2);
  WriteElsewhere(fresh);
  Bind(fresh);
  ExpectAll(fresh);
  ASSERT_TRUE(both_->Flush(kLong));
  Restart();
  ASSERT_EQ(content_.blocks.size(), 2U);
  EXPECT_EQ(content_.blocks[0].identity, fresh[0].identity);
  const std::vector<TestBlock> never = MakePrompt(16, 2);  // bound, and never read
  Bind(never);
  Restart();
  EXPECT_TRUE(content_.blocks.empty());
}

TEST_F(TieredStoreTest, AFillThatComesLateDoesNotTakeTheSlotOfAnotherBlock) {
  const std::vector<TestBlock> theirs = MakePrompt(17, 8);
  WriteElsewhere(theirs);
  for (uint64_t round = 0; round < 50; ++round) {
    Bind(theirs);
    ExpectAll(theirs);  // fills are on their way
    const std::vector<TestBlock> mine = MakePrompt(100 + round, 8);
    ASSERT_THAT(WriteAll(*both_, mine), IsOk());
    ASSERT_TRUE(both_->Flush(kLong));
    ExpectAll(mine);
    ASSERT_TRUE(both_->Flush(kLong));
  }
  EXPECT_EQ(both_->stats().disk_failed, 0);
}

TEST_F(TieredStoreTest, SaltsAreNamesOfTheirOwn) {
  const std::vector<TestBlock> plain = MakePrompt(18, 2, 0);
  std::vector<TestBlock> salted = MakePrompt(18, 2, 77);
  Write(plain);
  Bind(salted, 8);
  EXPECT_EQ(Read(salted[0], 8).code(), absl::StatusCode::kNotFound);
  ExpectAll(plain);
}

TEST_F(TieredStoreTest, ALinkTellsADamagedBlockFromOneThatHasGone) {
  const std::vector<TestBlock> blocks = MakePrompt(19, 4);
  LinkWorld world(*both_, 8);
  ASSERT_THAT(world.Spill(1, blocks, 0, 0).status, IsOk());
  ASSERT_TRUE(both_->Flush(kLong));
  world.ClearHost();
  FlipOnDisk(2);
  CopyResult result = world.Stage(2, blocks, 0, 0);
  EXPECT_THAT(result.status, IsOk());
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(world.HostBlock(i), blocks[i].bytes);
  const std::vector<TestBlock> gone = MakePrompt(20, 2);
  Bind(gone, 20);
  result = world.Stage(3, gone, 20, 0);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(result.corrupt, 0);
  EXPECT_TRUE(world.complaints().empty());
  ASSERT_TRUE(both_->Flush(kLong));
  FlipOnDisk(1);
  values_->by_name.clear();
  result = world.Stage(4, blocks, 0, 0);
  EXPECT_EQ(result.corrupt, 1);
  ASSERT_EQ(world.complaints().size(), 1U);
  EXPECT_THAT(world.complaints()[0], HasSubstr("disk+remote KV tier: cannot read"));
  world.Stop();
}

class TieredRedisTest : public RemoteStoreTest {};

TEST_F(TieredRedisTest, ARealServerIsWrittenToReadFromAndMissed) {
  RedisServer server;
  const TempDir dir;
  RemoteStoreOptions there = Options(server);
  const int64_t value = static_cast<int64_t>(RemoteValueFormat(SmallSpace()).value_bytes());
  there.limit = Bytes((kSlots + TieredStore::kRemoteExtra.value()) * value);
  auto remote = RemoteStore::Create(there);
  ASSERT_THAT(remote, IsOk());
  const std::vector<TestBlock> blocks = MakePrompt(21, 20);
  {
    const std::unique_ptr<DiskStore> disk = OpenStore(SmallStore(dir, kSlots));
    TieredStore both(*disk, **remote, {});
    ASSERT_THAT(WriteAll(both, blocks), IsOk());
    ASSERT_TRUE(both.Flush(kLong));
    EXPECT_EQ((*remote)->stats().blocks_written, 20);
  }
  const TempDir other;  // another machine
  const std::unique_ptr<DiskStore> disk = OpenStore(SmallStore(other, kSlots));
  TieredStore both(*disk, **remote, {});
  const absl::StatusOr<size_t> found = (*remote)->Find(Names(blocks));
  ASSERT_THAT(found, IsOk());
  ASSERT_EQ(*found, 20U);
  std::vector<StoredBlock> bound;
  for (const TestBlock& block : blocks) {
    bound.push_back({BlockId(static_cast<int32_t>(bound.size())), block.identity, block.tokens});
  }
  both.Bind(bound);
  std::vector<std::byte> bytes;
  for (int32_t i = 0; i < 20; ++i) {
    const TestBlock& block = blocks[static_cast<size_t>(i)];
    ASSERT_THAT(ReadBack(both, BlockId(i), block.identity, &bytes), IsOk());
    EXPECT_EQ(bytes, block.bytes);
  }
  ASSERT_TRUE(both.Flush(kLong));
  EXPECT_EQ(both.stats().filled, 20);
  server.Kill();
  for (int32_t i = 0; i < 20; ++i) {
    const TestBlock& block = blocks[static_cast<size_t>(i)];
    ASSERT_THAT(ReadBack(both, BlockId(i), block.identity, &bytes), IsOk());
  }
  EXPECT_EQ(both.stats().disk_blocks, 20);
}

}  // namespace
}  // namespace sluice::testing
