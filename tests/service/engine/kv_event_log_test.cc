#include "service/engine/kv_event_log.h"

#include <array>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Time kNow = absl::UnixEpoch();

KvEvents Stored(std::initializer_list<uint64_t> blocks, uint64_t salt = 0) {
  KvEvents events(Tokens(2));
  for (const uint64_t block : blocks) {
    const std::array<TokenId, 2> tokens = {static_cast<TokenId>(block), 7};
    events.AddStored(block, std::nullopt, salt, tokens);
  }
  return events;
}

std::vector<uint64_t> Numbers(const KvEventLog::Batches& batches) {
  std::vector<uint64_t> numbers;
  for (const auto& batch : batches) numbers.push_back(batch->sequence);
  return numbers;
}

TEST(KvEventLogTest, NumbersBatchesFromOneWithoutGaps) {
  KvEventLog log(100, Tokens(2));
  log.Publish(Stored({1, 2}), kNow);
  log.Publish(Stored({}), kNow);  // nothing happened
  log.Publish(Stored({3}), kNow);
  EXPECT_THAT(Numbers(*log.Read(0, 10)), ElementsAre(1, 2));
  EXPECT_THAT(Numbers(*log.Read(1, 10)), ElementsAre(2));
  EXPECT_THAT(Numbers(*log.Read(0, 1)), ElementsAre(1));
  EXPECT_THAT(Numbers(*log.Read(2, 10)), IsEmpty());
  EXPECT_EQ(log.Read(0, 1)->front()->events.size(), 2U);
}

TEST(KvEventLogTest, LeavesOutWhatIsKeptApart) {
  KvEventLog log(100, Tokens(2));
  log.Publish(Stored({1}, /*salt=*/5), kNow);
  EXPECT_THAT(*log.Read(0, 10), IsEmpty());
  EXPECT_EQ(log.MakeSnapshot(Stored({1}, 5), kNow).batches, 0U);
}

TEST(KvEventLogTest, KeepsTheNewestAndSaysWhatWasLost) {
  KvEventLog log(3, Tokens(2));
  for (uint64_t i = 1; i <= 5; ++i) log.Publish(Stored({i}), kNow);
  EXPECT_THAT(Numbers(*log.Read(2, 10)), ElementsAre(3, 4, 5));
  const auto lost = log.Read(0, 10);
  EXPECT_EQ(lost.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(lost.status().message()), HasSubstr("batches 1 to 2 were dropped"));
}

TEST(KvEventLogTest, ResumesOnlyWhereItStillKnowsWhatFollows) {
  KvEventLog log(3, Tokens(2));
  EXPECT_TRUE(log.CheckResume(0).ok());
  for (uint64_t i = 1; i <= 5; ++i) log.Publish(Stored({i}), kNow);
  for (uint64_t after = 2; after <= 5; ++after) EXPECT_TRUE(log.CheckResume(after).ok()) << after;
  for (const uint64_t after : {0, 1, 6, 1000}) {
    const absl::Status status = log.CheckResume(after);
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << after;
    EXPECT_THAT(std::string(status.message()), HasSubstr("is not in [2, 5]"));
  }
}

TEST(KvEventLogTest, ASnapshotHasNumbersOfItsOwnInsideWhichNobodyResumes) {
  KvEventLog log(1000000, Tokens(2));
  log.Publish(Stored({1}), kNow);
  KvEvents many(Tokens(2));
  for (uint64_t i = 0; i < 2 * log.batch_limit() + 1; ++i) {
    many.AddFrom(Stored({i}), 0);
  }
  const KvSnapshot snapshot = log.MakeSnapshot(many, kNow);
  EXPECT_EQ(snapshot.first_sequence, 2U);
  EXPECT_EQ(snapshot.batches, 3U);
  log.Publish(Stored({9}), kNow);
  EXPECT_THAT(Numbers(*log.Read(0, 10)), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_TRUE(log.Read(1, 1)->front()->events.empty());
  EXPECT_TRUE(log.CheckResume(1).ok());
  EXPECT_TRUE(log.CheckResume(4).ok());
  for (const uint64_t inside : {2, 3}) {
    EXPECT_THAT(std::string(log.CheckResume(inside).message()),
                HasSubstr("in the middle of a snapshot"));
  }
}

TEST(KvEventLogTest, CutsLargeBatches) {
  KvEventLog log(1000000, Tokens(2));
  KvEvents many(Tokens(2));
  for (uint64_t i = 0; i < log.batch_limit() + 1; ++i) many.AddFrom(Stored({i}), 0);
  log.Publish(many, kNow);
  const KvEventLog::Batches batches = *log.Read(0, 10);
  ASSERT_EQ(batches.size(), 2U);
  EXPECT_EQ(batches[0]->events.size(), log.batch_limit());
  EXPECT_EQ(batches[1]->events.size(), 1U);
}

TEST(KvEventLogTest, ListenersHearOfEveryBatchUntilForgotten) {
  KvEventLog log(100, Tokens(2));
  int heard = 0;
  const int64_t listener = log.Listen([&heard] { ++heard; });
  log.Publish(Stored({1}), kNow);
  EXPECT_EQ(heard, 1);
  log.Forget(listener);
  log.Publish(Stored({2}), kNow);
  EXPECT_EQ(heard, 1);
}

}  // namespace
}  // namespace sluice
