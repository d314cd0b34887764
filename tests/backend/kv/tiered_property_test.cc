// A store over two places, both of which go wrong in every way a store can, under random use: no
// byte of another block is ever told to be right, every read is counted once, and when the faults
// are over everything that is written can be read.
#include <map>
#include <random>

#include "backend/kv/faulty_store.h"
#include "backend/kv/tiered_store.h"
#include "gtest/gtest.h"
#include "tests/backend/kv/shared_memory_store.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

constexpr int32_t kSlots = 24;
constexpr absl::Duration kLong = absl::Seconds(60);

FaultyStoreOptions Faults(uint64_t seed, double p) {
  FaultyStoreOptions options;
  options.seed = seed;
  for (int fault = 0; fault < kStoreFaultCount; ++fault) {
    options.With(static_cast<StoreFault>(fault), p);
  }
  return options.With(StoreFault::kDelay, 0);
}

class TieredWorld {
 public:
  explicit TieredWorld(uint64_t seed)
      : random_(seed),
        values_(std::make_shared<SharedMemoryStore::Values>()),
        disk_(OpenStore(Quick())),
        remote_(SmallShape(), Blocks(kSlots) + TieredStore::kRemoteExtra, values_),
        bad_disk_(*disk_, Faults(seed + 1, 0.06)),
        bad_remote_(remote_, Faults(seed + 2, 0.06)) {
    Open(bad_disk_, bad_remote_);
  }

  void Step() {
    switch (random_() % 16) {
      case 0:
        remote_.SetAway(random_() % 2 == 0);
        break;
      case 1:
        (void)both_->Drop(AnySlot());
        break;
      case 2: {
        const BlockId slot = AnySlot();
        (void)both_->Erase(slot);
        content_.erase(slot.value());
        break;
      }
      case 3:
      case 4:
      case 5:
        Write();
        break;
      case 6:
      case 7:
        Bind();
        break;
      default:
        Read();
    }
  }

  // Without faults: what is written is there.
  void EndWell() {
    ASSERT_TRUE(both_->Flush(kLong));
    const TieredStats stats = both_->stats();
    EXPECT_EQ(stats.disk_blocks + stats.remote_blocks + stats.lost, reads_);
    EXPECT_EQ(stats.disk_blocks + stats.remote_blocks, right_);
    EXPECT_LE(stats.rescued, stats.disk_failed);
    EXPECT_EQ(wrong_, 0);
    corrupt_ = stats.disk_corrupt + stats.remote_corrupt;
    rescued_ = stats.rescued;
    filled_ = stats.filled;
    remote_.SetAway(false);
    Open(*disk_, remote_);
    for (int round = 0; round < 4; ++round) {
      const std::vector<TestBlock> blocks = MakePrompt(random_(), 6);
      ASSERT_THAT(WriteAll(*both_, blocks, round * 6), IsOk());
      for (size_t i = 0; i < 6; ++i) {
        std::vector<std::byte> bytes;
        const BlockId slot(round * 6 + static_cast<int32_t>(i));
        EXPECT_THAT(ReadBack(*both_, slot, blocks[i].identity, &bytes), IsOk());
        EXPECT_EQ(bytes, blocks[i].bytes);
      }
    }
  }

  int64_t corrupt() const { return corrupt_; }
  int64_t rescued() const { return rescued_; }
  int64_t filled() const { return filled_; }

 private:
  DiskStoreOptions Quick() const {
    DiskStoreOptions options = SmallStore(dir_, kSlots);
    options.io = FileIoMethod::kThreads;
    options.direct = false;
    return options;
  }
  void Open(BlockStore& disk, BlockStore& remote) {
    both_.reset();
    TieredStoreOptions options;
    options.copies = options.fills = Bytes(6 * SmallShape().payload.value());
    both_ = std::make_unique<TieredStore>(disk, remote, options);
    ASSERT_THAT(both_->Scan(), IsOk());
    content_.clear();
  }
  BlockId AnySlot() { return BlockId(static_cast<int32_t>(random_() % kSlots)); }

  // The blocks of a prompt in slots that follow each other.
  int32_t Place(const std::vector<TestBlock>& blocks) {
    const auto room = static_cast<uint64_t>(kSlots) - blocks.size() + 1;
    const auto first = static_cast<int32_t>(random_() % room);
    for (size_t i = 0; i < blocks.size(); ++i) {
      content_[first + static_cast<int32_t>(i)] = blocks[i];
    }
    return first;
  }

  void Write() {
    const std::vector<TestBlock> blocks = MakePrompt(random_() % 40, 1 + random_() % 5);
    (void)WriteAll(*both_, blocks, Place(blocks));
  }

  // Some of it may be there.
  void Bind() {
    const std::vector<TestBlock> blocks = MakePrompt(random_() % 40, 1 + random_() % 5);
    int32_t slot = Place(blocks);
    std::vector<StoredBlock> bound;
    for (const TestBlock& block : blocks) {
      bound.push_back({BlockId(slot++), block.identity, block.tokens});
    }
    both_->Bind(bound);
  }

  void Read() {
    std::vector<std::vector<std::byte>> bytes;
    std::vector<StoreRead> reads;
    std::vector<const TestBlock*> wanted;
    const size_t count = 1 + random_() % 6;
    auto it = content_.lower_bound(AnySlot().value());
    for (; it != content_.end() && reads.size() < count; ++it) {
      bytes.emplace_back(SmallShape().payload.size());
      reads.emplace_back().slot = BlockId(it->first);
      wanted.push_back(&it->second);
    }
    for (size_t i = 0; i < reads.size(); ++i) reads[i].out = bytes[i];
    std::vector<int> told(reads.size());
    both_->Read(reads, [&](size_t i) { ++told[i]; });
    reads_ += static_cast<int64_t>(reads.size());
    for (size_t i = 0; i < reads.size(); ++i) {
      EXPECT_EQ(told[i], 1);
      if (!reads[i].status.ok()) continue;
      ++right_;
      const bool right =
          bytes[i] == wanted[i]->bytes && CheckPayload(reads[i].record, wanted[i]->identity,
                                                       bytes[i], SmallShape().layer_bytes(), 0)
                                              .ok();
      if (!right) ++wrong_;
    }
  }

  const TempDir dir_;
  std::mt19937_64 random_;
  const std::shared_ptr<SharedMemoryStore::Values> values_;
  const std::unique_ptr<DiskStore> disk_;
  SharedMemoryStore remote_;
  FaultyStore bad_disk_;
  FaultyStore bad_remote_;
  std::unique_ptr<TieredStore> both_;
  std::map<int32_t, TestBlock> content_;  // what a slot was last said to hold
  int64_t reads_ = 0;
  int64_t right_ = 0;
  int64_t wrong_ = 0;
  int64_t corrupt_ = 0;
  int64_t rescued_ = 0;
  int64_t filled_ = 0;
};

TEST(TieredPropertyTest, NoWrongByteIsEverTakenForRight) {
  int64_t corrupt = 0;
  int64_t rescued = 0;
  int64_t filled = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    TieredWorld world(seed * 1000);
    for (int step = 0; step < 250; ++step) world.Step();
    world.EndWell();
    corrupt += world.corrupt();
    rescued += world.rescued();
    filled += world.filled();
    if (::testing::Test::HasFailure()) return;
  }
  // The test is about something.
  EXPECT_GT(corrupt, 100);
  EXPECT_GT(rescued, 20);
  EXPECT_GT(filled, 20);
}

}  // namespace
}  // namespace sluice::testing
