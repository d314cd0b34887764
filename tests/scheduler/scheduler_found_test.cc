// What a store that other servers write to, too, has of a prompt.
#include "tests/scheduler/driver.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

SchedulerOptions WithRemote() {
  SchedulerOptions options = SmallOptions(16, 16);
  options.disk_blocks = Blocks(8);
  options.storage_tier = Tier::kRemote;
  options.cost.links[static_cast<size_t>(LinkDirection::kDiskToHost)].per_byte = Seconds(1e-12);
  options.cost.links[static_cast<size_t>(LinkDirection::kDiskToHost)].per_run = Seconds(0);
  return options;
}

class SchedulerFoundTest : public ::testing::Test {
 protected:
  SchedulerDriver driver_{WithRemote()};
  Scheduler& scheduler_ = driver_.scheduler;
};

TEST_F(SchedulerFoundTest, AllFullBlocksButTheOneOfTheLastTokenAreMissingAtFirst) {
  const RequestSpec spec = driver_.Spec(1, Document(1, 12));  // three full blocks
  const PromptBlocks prompt = scheduler_.FindMissing(spec);
  EXPECT_EQ(prompt.known, 0u);
  ASSERT_THAT(prompt.missing(), SizeIs(2));
  EXPECT_TRUE(prompt.blocks[0].first);
  EXPECT_FALSE(prompt.blocks[1].first);
  EXPECT_EQ(prompt.blocks[1].parent, prompt.blocks[0].hash);
  EXPECT_EQ(prompt.blocks[0].hash, BlockHash(RootHash(0, 0), std::span(spec.prompt).subspan(0, 4)));
}

TEST_F(SchedulerFoundTest, NamesDependOnTheSalt) {
  RequestSpec spec = driver_.Spec(1, Document(1, 12));
  const PromptBlocks plain = scheduler_.FindMissing(spec);
  spec.cache_salt = 7;
  const PromptBlocks salted = scheduler_.FindMissing(spec);
  EXPECT_EQ(salted.blocks[0].salt, 7u);
  EXPECT_NE(salted.blocks[0].hash, plain.blocks[0].hash);
}

TEST_F(SchedulerFoundTest, NothingIsLookedForWithoutATierOrATooLongPrompt) {
  SchedulerDriver plain(SmallOptions(16, 16));
  EXPECT_THAT(plain.scheduler.FindMissing(plain.Spec(1, Document(1, 12))).blocks, IsEmpty());
  EXPECT_THAT(scheduler_.FindMissing(driver_.Spec(1, Document(1, 2000))).blocks, IsEmpty());
  EXPECT_THAT(scheduler_.FindMissing(driver_.Spec(1, {})).blocks, IsEmpty());
}

TEST_F(SchedulerFoundTest, WhatWasFoundIsLoadedAndCountedAsRemote) {
  const RequestSpec spec = driver_.Spec(1, Document(1, 13));
  const PromptBlocks prompt = scheduler_.FindMissing(spec);
  const std::vector<StoredBlock> placed = scheduler_.AdoptFound(spec, prompt, 2);
  ASSERT_THAT(placed, SizeIs(2));
  EXPECT_EQ(placed[1].identity, prompt.blocks[1]);
  EXPECT_EQ(scheduler_.FindMissing(spec).known, 2u);
  ASSERT_THAT(scheduler_.CheckInvariants(), IsOk());

  ASSERT_THAT(scheduler_.Submit(spec, driver_.now), IsOk());
  const StepPlan& plan = driver_.Plan();
  ASSERT_THAT(plan.copies, SizeIs(1));
  EXPECT_EQ(plan.copies[0].direction, LinkDirection::kDiskToHost);
  EXPECT_THAT(plan.copies[0].identities, ElementsAre(prompt.blocks[0], prompt.blocks[1]));
  EXPECT_EQ(plan.copies[0].blocks[0].source, placed[0].slot);
  EXPECT_EQ(scheduler_.stats().storage_tier, Tier::kRemote);
}

TEST_F(SchedulerFoundTest, BlocksThatOthersRemovedAreNoReasonToLeaveTheStoreAlone) {
  for (int i = 0; i < 10; ++i) {
    const RequestSpec spec = driver_.Spec(i, Document(i + 1, 13));
    ASSERT_THAT(scheduler_.AdoptFound(spec, scheduler_.FindMissing(spec), 3), SizeIs(3));
    ASSERT_THAT(scheduler_.Submit(spec, driver_.now), IsOk());
    const StepPlan& plan = driver_.Plan();
    ASSERT_FALSE(plan.copies.empty());
    ASSERT_EQ(plan.copies[0].direction, LinkDirection::kDiskToHost);
    CopyResult result;
    result.id = plan.copies[0].id;
    result.status = absl::NotFoundError("gone");
    result.failed = {1};
    driver_.copies.erase(result.id);
    scheduler_.OnCopyDone(result, driver_.now);
    ASSERT_THAT(scheduler_.CheckInvariants(), IsOk());
    if (!plan.sequences.empty()) driver_.Commit();
    driver_.Drain();
    ASSERT_NE(driver_.FinishOf(i), nullptr);
    EXPECT_THAT(driver_.FinishOf(i)->status, IsOk());
    EXPECT_FALSE(scheduler_.stats().disk_reads_off);
  }
  EXPECT_EQ(scheduler_.stats().disk_corrupt, Blocks(0));
}

}  // namespace
}  // namespace sluice::testing
