#include "scheduler/kv/block_pool.h"

#include <deque>
#include <map>
#include <random>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {
namespace {

TEST(BlockPoolTest, ABlockIsFreedWhenItsLastUserLeaves) {
  BlockPool pool(Blocks(2));
  const BlockId block = pool.TakeForUse();
  pool.AddReference(block);
  pool.DropReference(block);
  EXPECT_EQ(pool.referenced(), Blocks(1));
  pool.DropReference(block);
  EXPECT_EQ(pool.free(), Blocks(2));
}

TEST(BlockPoolTest, AnOwnedBlockIsCachedAndLeavesInOrderOfLastUse) {
  BlockPool pool(Blocks(3));
  std::vector<BlockId> blocks;
  for (int i = 0; i < 3; ++i) {
    blocks.push_back(pool.TakeForUse());
    pool.SetOwner(blocks.back(), NodeId(i));
  }
  EXPECT_FALSE(pool.Oldest().valid());
  pool.DropReference(blocks[2]);
  pool.DropReference(blocks[0]);
  pool.DropReference(blocks[1]);
  EXPECT_EQ(pool.cached(), Blocks(3));
  EXPECT_EQ(pool.Oldest(), blocks[2]);
  pool.Touch(blocks[2]);
  EXPECT_EQ(pool.Oldest(), blocks[0]);
  pool.ClearOwner(blocks[0]);
  EXPECT_EQ(pool.free(), Blocks(1));
  EXPECT_EQ(pool.Oldest(), blocks[1]);
}

TEST(BlockPoolTest, WhatLosesItsOwnerStayedSinceItGotIt) {
  BlockPool pool(Blocks(2));
  const BlockId early = pool.TakeForUse();
  pool.SetOwner(early, NodeId(0));  // before anybody told the time
  pool.set_now(absl::FromUnixSeconds(100));
  const BlockId block = pool.TakeForUse();
  pool.SetOwner(block, NodeId(1));
  pool.set_now(absl::FromUnixSeconds(107));
  pool.DropReference(block);
  pool.Touch(block);
  EXPECT_EQ(pool.residency().sum_s, 0) << "it is still there";
  pool.ClearOwner(block);
  pool.ClearOwner(early);
  const Residency& counted = pool.residency();
  EXPECT_DOUBLE_EQ(counted.sum_s, 7);
  for (size_t i = 0; i < counted.blocks.size(); ++i) {
    const bool within = i < Residency::kBounds.size() && Residency::kBounds[i] == 10;
    EXPECT_EQ(counted.blocks[i], within ? 1 : 0) << i;
  }
}

TEST(ResidencyTest, ABoundBelongsToItsClassAndTheLastClassHasNone) {
  Residency residency;
  residency.Add(Residency::kBounds.front());
  residency.Add(Residency::kBounds.back());
  residency.Add(Residency::kBounds.back() + 1);
  EXPECT_EQ(residency.blocks.front(), 1);
  EXPECT_EQ(residency.blocks[Residency::kBounds.size() - 1], 1);
  EXPECT_EQ(residency.blocks.back(), 1);
}

TEST(BlockPoolTest, ABlockInTransitIsNeitherFreeNorCached) {
  BlockPool pool(Blocks(1));
  const BlockId block = pool.TakeForUse();
  pool.SetOwner(block, NodeId(0));
  pool.AddTransit(block);
  EXPECT_EQ(pool.referenced(), Blocks(1)) << "being used counts first";
  pool.DropReference(block);
  EXPECT_EQ(pool.in_transit(), Blocks(1));
  EXPECT_FALSE(pool.Oldest().valid());
  pool.DropTransit(block);
  EXPECT_EQ(pool.cached(), Blocks(1));
}

TEST(BlockPoolTest, LowWorthGoesFirstUnlessUsedMuchMoreRecently) {
  BlockPool pool(Blocks(4));
  std::vector<BlockId> blocks;
  for (int i = 0; i < 4; ++i) {
    blocks.push_back(pool.TakeForUse());
    pool.SetOwner(blocks.back(), NodeId(i));
    if (i % 2 == 1) pool.SetWorth(blocks.back(), BlockPool::Worth::kLow);
  }
  for (const BlockId block : blocks) pool.DropReference(block);
  EXPECT_EQ(pool.Oldest(), blocks[1]) << "older blocks are dear";
  for (int i = 0; i < 20; ++i) {
    pool.Touch(blocks[1]);
    pool.Touch(blocks[3]);
  }
  EXPECT_EQ(pool.Oldest(), blocks[0]) << "the cheap ones are in constant use";
  pool.SetWorth(blocks[1], BlockPool::Worth::kHigh);
  pool.SetWorth(blocks[3], BlockPool::Worth::kHigh);
  EXPECT_EQ(pool.Oldest(), blocks[3]) << "a block that changes is the oldest of its new list";
  EXPECT_THAT(pool.CheckInvariants(), IsOk());
}

TEST(BlockPoolTest, WorthIsForgottenWithTheBlock) {
  BlockPool pool(Blocks(1));
  BlockId block = pool.TakeForUse();
  pool.SetWorth(block, BlockPool::Worth::kLow);
  pool.DropReference(block);
  block = pool.TakeForUse();
  EXPECT_EQ(pool.worth(block), BlockPool::Worth::kHigh);
}

TEST(BlockPoolDeathTest, MisuseIsCaught) {
  BlockPool pool(Blocks(1));
  const BlockId block = pool.TakeForUse();
  EXPECT_DEATH(pool.TakeForUse(), "CHECK failed");
  EXPECT_DEATH(pool.DropTransit(block), "CHECK failed");
  pool.DropReference(block);
  EXPECT_DEATH(pool.AddReference(block), "CHECK failed");
}

// A reference model: counts per block, and the order in which blocks became cached.
struct Model {
  struct Block {
    int references = 0;
    int transits = 0;
    bool owned = false;
    bool busy() const { return references + transits > 0; }
  };
  std::map<int, Block> blocks;  // in use or cached
  std::deque<int> cached;       // oldest first

  void Settle(int id, bool was_cached) {
    const Block& b = blocks[id];
    const bool is_cached = !b.busy() && b.owned;
    if (was_cached && !is_cached) std::erase(cached, id);
    if (!was_cached && is_cached) cached.push_back(id);
    if (!b.busy() && !b.owned) blocks.erase(id);
  }
};

class BlockPoolPropertyTest : public ::testing::TestWithParam<int> {};

TEST_P(BlockPoolPropertyTest, AgreesWithModel) {
  std::mt19937 rng(static_cast<uint32_t>(GetParam()));
  BlockPool pool(Blocks(12));
  Model model;
  for (int step = 0; step < 3000; ++step) {
    SCOPED_TRACE(::testing::Message() << "seed " << GetParam() << " step " << step);
    if (rng() % 4 == 0 && pool.free() > Blocks(0)) {
      const bool use = rng() % 2 == 0;
      const BlockId id = use ? pool.TakeForUse() : pool.TakeForCopy();
      ASSERT_FALSE(model.blocks.contains(id.value())) << "handed out twice";
      (use ? model.blocks[id.value()].references : model.blocks[id.value()].transits) = 1;
    } else if (!model.blocks.empty()) {
      auto it = std::next(model.blocks.begin(), static_cast<int>(rng() % model.blocks.size()));
      const int key = it->first;
      Model::Block& b = it->second;
      const BlockId id(key);
      const bool was_cached = !b.busy();
      switch (rng() % 7) {
        case 0:
          pool.AddReference(id);
          ++b.references;
          break;
        case 1:
          pool.AddTransit(id);
          ++b.transits;
          break;
        case 2:
        case 3:
          if (b.references > 0) {
            pool.DropReference(id);
            --b.references;
          }
          break;
        case 4:
        case 5:
          if (b.transits > 0) {
            pool.DropTransit(id);
            --b.transits;
          }
          break;
        default:
          if (b.owned)
            pool.ClearOwner(id);
          else
            pool.SetOwner(id, NodeId(1));
          b.owned = !b.owned;
      }
      model.Settle(key, was_cached);
    }
    ASSERT_EQ(pool.cached().size(), model.cached.size());
    ASSERT_EQ(pool.Oldest().value(), model.cached.empty() ? -1 : model.cached.front());
    ASSERT_EQ(pool.free(), Blocks(12 - static_cast<int64_t>(model.blocks.size())));
    ASSERT_THAT(pool.CheckInvariants(), IsOk());
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, BlockPoolPropertyTest, ::testing::Range(0, 20),
                         [](const auto& p) { return "Seed" + std::to_string(p.param); });

}  // namespace
}  // namespace sluice::testing
